"use strict";
// Labels: search for the nearest of any, read the matrix cell by cell, and a click on a label shows it everywhere.

(() => {
  const data = page.data("label-data");
  if (!data || typeof DecompressionStream === "undefined") return;  // an old browser has the printed list
  const query = document.getElementById("label-query");
  const select = document.getElementById("label-variant");
  const list = document.getElementById("label-found");
  const count = document.getElementById("label-count");
  const most = 25;
  let names = [];
  let lower = [];
  const opened = new Map();

  // Ranks stand one after the other: the nearest of all labels first.
  async function open(number) {
    if (!opened.has(number)) {
      const variant = data.variants[number];
      const [places, scores] = await Promise.all([variant.places, variant.scores].map((text) => page.unpacked(text)));
      opened.set(number, { ...variant, places: variant.wide ? new Uint32Array(places) : new Uint16Array(places), scores: new Float32Array(scores) });
    }
    return opened.get(number);
  }

  const neighbours = (variant, label) => Array.from({ length: variant.k }, (_, rank) => {
    const at = rank * data.count + label;
    return [variant.places[at], variant.scores[at]];
  });

  const digits = (value) => Number(value.toPrecision(3)).toString();
  const score = (value, kind) => ({
    lift: () => `${value.toFixed(2)}\u00d7`, "relative distance": () => value.toFixed(2), share: () => `${digits(100 * value)}\u00a0%`,
    distance: () => digits(-value), cosine: () => digits(value),
  })[kind]();
  const unit = (variant) => variant.unit || { share: "share of the label's soft target", distance: "distance", cosine: "cosine" }[variant.kind];

  // Whole names first, then beginnings, then the rest, each in the order of the labels.
  function matches(wanted) {
    const ranked = [[], [], []];
    let all = 0;
    for (let label = 0; label < lower.length; label += 1) {
      const at = lower[label].indexOf(wanted);
      if (at < 0) continue;
      all += 1;
      // The mark that subwords begin with is no letter of the name.
      const rank = lower[label].length === wanted.length || lower[label] === `\u2581${wanted}` ? 0 : at > 0 ? 2 : 1;
      if (ranked[rank].length < most) ranked[rank].push(label);
    }
    return { all, labels: ranked.flat().slice(0, most) };
  }

  function entry(variant, label) {
    const item = page.element("li");
    item.append(page.element("bdi", { class: "label", text: names[label], "data-label": label }));
    const near = page.element("span", { class: "near" });
    for (const [other, value] of neighbours(variant, label)) {
      const button = page.element("button", { type: "button", class: "neighbour", title: `nearest to ${names[other]}` });
      button.append(page.element("bdi", { text: names[other] }), " ", page.element("span", { class: "unit", text: score(value, variant.kind) }));
      button.addEventListener("click", () => { query.value = names[other]; show(); query.focus(); choose(other); });
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
      : `${all.toLocaleString("en")} label${all === 1 ? "" : "s"}${all > labels.length ? `, the first ${labels.length} shown` : ""}; in grey: ${unit(variant)}.`;
    list.replaceChildren(...labels.map((label) => entry(variant, label)));
    list.dataset.shown = query.value;
  }

  // One label is chosen at a time; wherever it stands in text, tree, map or matrix it is marked.
  const matrix = document.querySelector("figure.matrix");
  const order = matrix ? matrix.dataset.order.split(",").map(Number) : [];
  function choose(label) {
    for (const marked of document.querySelectorAll(".chosen")) marked.classList.remove("chosen");
    for (const outline of document.querySelectorAll(".outline")) outline.remove();
    if (label === page.chosen) { page.chosen = null; return; }
    page.chosen = label;
    for (const found of document.querySelectorAll(`[data-label="${label}"], svg [id$="-label-${label}"]`)) found.classList.add("chosen");
    const row = order.indexOf(label);
    if (row < 0) return;
    for (const image of squares()) {
      const [x, y, width, height] = placeOf(image);
      const outline = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const step = height / order.length;
      for (const [name, value] of Object.entries({ x, y: y + row * step, width, height: step, class: "outline" })) outline.setAttribute(name, value);
      image.after(outline);
    }
  }

  // The last picture of the matrix is the scale of its colours, where there is one.
  const squares = () => [...matrix.querySelectorAll("image")].filter((image) => {
    const box = image.getBoundingClientRect();
    return box.height > box.width / 2;
  });
  // matplotlib draws pictures upside down: the box in the units of the drawing.
  function placeOf(image) {
    const box = image.getBBox();
    const corner = (x, y) => new DOMPoint(x, y).matrixTransform(image.transform.baseVal.consolidate()?.matrix ?? new DOMMatrix());
    const [one, other] = [corner(box.x, box.y), corner(box.x + box.width, box.y + box.height)];
    return [Math.min(one.x, other.x), Math.min(one.y, other.y), Math.abs(one.x - other.x), Math.abs(one.y - other.y)];
  }

  for (const head of document.querySelectorAll("th[data-label]")) head.tabIndex = 0;
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches?.("th[data-label]")) event.target.click();
  });
  document.addEventListener("click", (event) => {
    const found = event.target.closest?.("[data-label]") ?? event.target.closest?.("svg [id*='-label-']");
    if (!found) return;
    const label = Number(found.dataset.label ?? found.id.split("-label-").pop());
    if (label >= 0 && label < data.count) { choose(label); query.value = names[label]; show(); }
  });

  if (matrix) {
    const readout = document.getElementById("matrix-readout");
    let numbers = null;
    const cellAt = (event) => {
      for (const [panel, image] of squares().entries()) {
        const box = image.getBoundingClientRect();
        const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
        if (x >= 0 && y >= 0 && x < 1 && y < 1) return [panel, Math.floor(y * order.length), Math.floor(x * order.length)];
      }
      return null;
    };
    matrix.addEventListener("pointermove", async (event) => {
      const cell = cellAt(event);
      if (!cell) return;
      const [panel, row, column] = cell;
      readout.hidden = false;
      numbers ??= matrix.querySelector("script[data-numbers]") ? await page.numbers(matrix) : [];
      const line = numbers[1 + panel * order.length + row];
      const value = line?.[2 + column];
      const shown = line?.[0].startsWith("predicted instead") ? `${digits(100 * value)}\u00a0% of its examples`
        : line?.[0].endsWith("(relative distance)") ? `relative distance ${value?.toFixed(2)}` : `${value?.toFixed(2)}\u00d7`;
      const text = value === undefined || value === null || row === column ? "" : `: ${shown}`;
      readout.textContent = `${line ? `${line[0]}: ` : ""}${names[order[row]]} \u2192 ${names[order[column]]}${text}`;
    });
    matrix.addEventListener("click", (event) => {
      const cell = event.target.closest("[id*='-label-']") ? null : cellAt(event);
      if (cell) choose(order[cell[1]]);
    });
  }

  page.waits.push((async () => {
    names = JSON.parse(new TextDecoder().decode(await page.unpacked(data.names)));
    lower = names.map((name) => name.toLowerCase());
    data.variants.forEach((variant, number) => select.append(page.element("option", { value: number, text: variant.variant })));
    if (!data.variants.length) return;
    await open(0);
    // Of a few the printed list has all.
    document.getElementById("label-search").hidden = data.count <= 20;
    await show();
    query.addEventListener("input", show);
    select.addEventListener("change", show);
  })());
})();

Promise.all(page.waits).then(() => { document.documentElement.dataset.ready = "all"; });
