"use strict";
// Searching labels for their most similar ones, and a heat map to look into.

(() => {
  const data = page.data("label-data");
  if (!data) return;
  const query = document.getElementById("label-query");
  const select = document.getElementById("label-variant");
  const list = document.getElementById("label-found");
  const count = document.getElementById("label-count");
  const most = 25;
  let names = [];
  let lower = [];
  const opened = new Map();

  const half = (bits) => {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  };

  // Ranks stand one after the other: the most similar of all labels first.
  async function open(number) {
    if (!opened.has(number)) {
      const variant = data.variants[number];
      const [places, ends, steps] = await Promise.all(
        [variant.places, variant.ends, variant.steps].map((text) => page.unpacked(text)));
      opened.set(number, {
        ...variant,
        places: variant.wide ? new Uint32Array(places) : new Uint16Array(places),
        ends: new Uint16Array(ends),
        steps: new Uint8Array(steps),
      });
    }
    return opened.get(number);
  }

  function neighbours(variant, label) {
    const first = half(variant.ends[label]);
    const last = half(variant.ends[data.count + label]);
    const found = [];
    let level = 0;
    for (let rank = 0; rank < variant.k; rank += 1) {
      level += variant.steps[rank * data.count + label];
      found.push([variant.places[rank * data.count + label], first - (first - last) * (level / 100)]);
    }
    return found;
  }

  function score(value, kind) {
    if (kind === "share") return `${Number((100 * value).toPrecision(3))}\u00a0%`;
    return Number((kind === "distance" ? -value : value).toPrecision(3)).toString();
  }

  // Whole names first, then beginnings, then the rest, each in the order of the labels.
  function matches(wanted) {
    const ranked = [[], [], []];
    let all = 0;
    for (let label = 0; label < lower.length; label += 1) {
      const at = lower[label].indexOf(wanted);
      if (at < 0) continue;
      all += 1;
      const rank = at > 0 ? 2 : lower[label].length === wanted.length ? 0 : 1;
      if (ranked[rank].length < most) ranked[rank].push(label);
    }
    return { all, labels: ranked.flat().slice(0, most) };
  }

  function entry(variant, label) {
    const item = page.element("li");
    item.append(page.element("bdi", { class: "label", text: names[label] }));
    const near = page.element("span", { class: "near" });
    for (const [other, value] of neighbours(variant, label)) {
      const button = page.element("button", { type: "button", class: "neighbour", title: `most similar to ${names[other]}` });
      button.append(page.element("bdi", { text: names[other] }), " ", page.element("span", { class: "unit", text: score(value, variant.kind) }));
      button.addEventListener("click", () => { query.value = names[other]; show(); query.focus(); });
      near.append(button);
    }
    item.append(near);
    return item;
  }

  let asked = 0;
  async function show() {
    asked += 1;
    const mine = asked;
    const variant = await open(Number(select.value));
    if (mine !== asked) return;
    const { all, labels } = matches(query.value.trim().toLowerCase());
    count.textContent = all === 0 ? "No label has this in its name."
      : `${all.toLocaleString("en")} label${all === 1 ? "" : "s"}${all > labels.length ? `, the first ${labels.length} shown` : ""}; ${
        { share: "in grey the share of the label's soft target", distance: "in grey the distance", cosine: "in grey the cosine" }[variant.kind]}.`;
    list.replaceChildren(...labels.map((label) => entry(variant, label)));
    list.dataset.shown = query.value;
  }

  page.waits.push((async () => {
    if (typeof DecompressionStream === "undefined") return;  // an old browser has the printed list
    names = JSON.parse(new TextDecoder().decode(await page.unpacked(data.names)));
    lower = names.map((name) => name.toLowerCase());
    data.variants.forEach((variant, number) => select.append(page.element("option", { value: number, text: variant.variant })));
    await open(0);
    document.getElementById("label-search").hidden = false;
    page.labelNames = names;
    await show();
    query.addEventListener("input", show);
    select.addEventListener("change", show);
    page.onNames?.();
  })());
})();

(() => {
  const data = page.data("heat-data");
  if (!data || typeof DecompressionStream === "undefined") return;
  const canvas = document.getElementById("heat-canvas");
  const readout = document.getElementById("heat-readout");
  const select = document.getElementById("heat-variant");
  const context = canvas.getContext("2d");
  const smallest = 4;
  let map = null;
  let view = { x: 0, y: 0, cells: 1 };
  let box = { left: 0, top: 0, side: 1 };
  let pointed = null;

  const names = (variant, cell) => {
    const labels = variant.order.slice(variant.edges[cell], variant.edges[cell + 1]).map((label) => page.labelNames?.[label] ?? String(label));
    return labels.length > 2 ? `${labels[0]} to ${labels[labels.length - 1]}` : labels.join(", ");
  };

  const value = (variant, row, column) => {
    const level = variant.values[row * variant.cells + column];
    if (level === 255) return "itself";
    const number = variant.low + (variant.high - variant.low) * (level / 254);
    if (variant.kind === "share") return `${Number((100 * number).toPrecision(3))}\u00a0%`;
    return variant.kind === "distance" ? `distance ${Number((-number).toPrecision(3))}` : `cosine ${Number(number.toPrecision(3))}`;
  };

  async function open(number) {
    const variant = { ...data.variants[number] };
    variant.cells = variant.edges.length - 1;
    variant.values = new Uint8Array(await page.unpacked(variant.values));
    const picture = page.element("canvas", { width: variant.cells, height: variant.cells });
    const pixels = new ImageData(variant.cells, variant.cells);
    for (let place = 0; place < variant.values.length; place += 1) {
      const level = variant.values[place];
      const from = 6 * Math.min(63, Math.floor(level / 254 * 64));
      for (let part = 0; part < 3; part += 1) {
        pixels.data[4 * place + part] = level === 255 ? 140 : parseInt(data.colours.slice(from + 2 * part, from + 2 * part + 2), 16);
      }
      pixels.data[4 * place + 3] = 255;
    }
    picture.getContext("2d").putImageData(pixels, 0, 0);
    map = { variant, picture };
    view = { x: 0, y: 0, cells: variant.cells };
    draw();
  }

  function draw() {
    if (!map) return;
    const { variant, picture } = map;
    const width = canvas.parentElement.clientWidth;
    const named = view.cells <= 40;
    const letters = 12;
    const short = (name) => (name.length > 18 ? `${name.slice(0, 17)}\u2026` : name);
    context.font = `${letters}px ${page.letters()}`;
    const widest = named ? Math.max(...Array.from({ length: view.cells }, (_, nth) => Math.max(
      ...[view.y, view.x].map((from) => context.measureText(short(names(variant, from + nth))).width)))) : 0;
    const gap = named ? Math.min(widest + 10, width * 0.28) : 2;
    const side = Math.floor(Math.min(560, width - gap - 2));
    const ratio = devicePixelRatio || 1;
    canvas.style.width = `${side + gap}px`;
    canvas.style.height = `${side + gap}px`;
    canvas.width = Math.round((side + gap) * ratio);
    canvas.height = Math.round((side + gap) * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(picture, view.x, view.y, view.cells, view.cells, gap, gap, side, side);
    box = { left: gap, top: gap, side };
    const step = side / view.cells;
    if (named) {
      context.fillStyle = page.colour("--ink");
      context.font = `${Math.min(letters, step * 0.9)}px ${page.letters()}`;
      context.textBaseline = "middle";
      for (let nth = 0; nth < view.cells; nth += 1) {
        context.textAlign = "right";
        context.fillText(short(names(variant, view.y + nth)), gap - 5, gap + step * (nth + 0.5), gap - 8);
        context.save();
        context.translate(gap + step * (nth + 0.5), gap - 5);
        context.rotate(-Math.PI / 2);
        context.textAlign = "left";
        context.fillText(short(names(variant, view.x + nth)), 0, 0, gap - 8);
        context.restore();
      }
    }
    if (pointed) {
      context.strokeStyle = page.colour("--ink");
      context.lineWidth = 2;
      context.strokeRect(gap + step * (pointed.column - view.x), gap + step * (pointed.row - view.y), step, step);
      const { row, column } = pointed;
      readout.textContent = row === column ? names(variant, row) : `${names(variant, row)} \u2192 ${names(variant, column)}: ${value(variant, row, column)}`;
    }
  }

  function zoom(factor, at = { x: 0.5, y: 0.5 }) {
    const all = map.variant.cells;
    const cells = Math.max(Math.min(smallest, all), Math.min(all, Math.round(view.cells * factor)));
    move(view.x + at.x * (view.cells - cells), view.y + at.y * (view.cells - cells), cells);
  }

  function move(x, y, cells = view.cells) {
    const limit = map.variant.cells - cells;
    view = { x: Math.round(Math.max(0, Math.min(limit, x))), y: Math.round(Math.max(0, Math.min(limit, y))), cells };
    draw();
  }

  function cellAt(event) {
    const bounds = canvas.getBoundingClientRect();
    const x = (event.clientX - bounds.left - box.left) / box.side;
    const y = (event.clientY - bounds.top - box.top) / box.side;
    if (x < 0 || y < 0 || x >= 1 || y >= 1) return null;
    return { x, y, column: view.x + Math.floor(x * view.cells), row: view.y + Math.floor(y * view.cells) };
  }

  let held = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (view.cells === map.variant.cells) return;
    held = { x: event.clientX, y: event.clientY, from: { ...view } };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointerup", () => { held = null; });
  canvas.addEventListener("pointercancel", () => { held = null; });
  canvas.addEventListener("pointermove", (event) => {
    if (held) {
      const step = box.side / view.cells;
      move(held.from.x - (event.clientX - held.x) / step, held.from.y - (event.clientY - held.y) / step);
      return;
    }
    pointed = cellAt(event);
    draw();
  });
  canvas.addEventListener("pointerleave", () => { pointed = null; draw(); });
  canvas.addEventListener("dblclick", (event) => { const at = cellAt(event); if (at) zoom(0.5, at); });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;  // the plain wheel scrolls the page
    event.preventDefault();
    const at = cellAt(event);
    if (at) zoom(event.deltaY < 0 ? 0.8 : 1.25, at);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = Math.max(1, Math.round(view.cells / 10));
    const action = {
      "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "0": () => zoom(Infinity),
      ArrowLeft: () => move(view.x - step, view.y), ArrowRight: () => move(view.x + step, view.y),
      ArrowUp: () => move(view.x, view.y - step), ArrowDown: () => move(view.x, view.y + step),
    }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  document.getElementById("heat-in").addEventListener("click", () => zoom(0.5));
  document.getElementById("heat-out").addEventListener("click", () => zoom(2));
  document.getElementById("heat-all").addEventListener("click", () => zoom(Infinity));
  data.variants.forEach((variant, number) => select.append(page.element("option", { value: number, text: variant.variant })));
  select.addEventListener("change", () => open(Number(select.value)));
  page.onTheme.push(draw);
  page.onNames = draw;
  document.getElementById("heat").hidden = false;
  new ResizeObserver(draw).observe(canvas.parentElement);
  page.waits.push(open(0));
})();

Promise.all(page.waits).then(() => { document.documentElement.dataset.ready = "all"; });
