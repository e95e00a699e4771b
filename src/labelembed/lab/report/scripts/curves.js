"use strict";
// The interactive curves: uPlot draws, this says what. The drawn figure stays for print and where no scripts run.

page.waits.push((async () => {
  const data = page.data("curves-data");
  if (!data || typeof uPlot === "undefined" || typeof DecompressionStream === "undefined") return;
  document.getElementById("curves").classList.add("live");
  const { epochs, metrics } = JSON.parse(new TextDecoder().decode(await page.unpacked(data.packed)));
  const metricOf = new Map(metrics.map((metric) => [metric.key, metric]));
  const select = document.getElementById("curves-metric");
  const log = document.getElementById("curves-log");
  const every = document.getElementById("curves-runs");
  const place = document.getElementById("curves-plot");
  const readout = document.getElementById("curves-readout");
  const hidden = new Set(data.series.flatMap((series, number) => (series.shown ? [] : [number])));
  let chart = null;

  for (const metric of metrics) select.append(page.element("option", { value: metric.key, text: metric.title }));

  const dash = (series) => (series.dash.length ? series.dash : undefined);
  const toggles = document.getElementById("curves-toggles");
  data.series.forEach((series, number) => {
    const sample = `<svg width="34" height="8" aria-hidden="true"><line x1="1" y1="4" x2="33" y2="4" stroke="var(--series-${Number(series.colour)})" stroke-width="2.5" stroke-dasharray="${series.dash.map(Number).join(" ")}"/></svg>`;
    const button = page.element("button", { type: "button", dir: "auto", "data-number": number });
    button.innerHTML = sample;
    button.append(page.element("span", { text: series.name }));
    button.addEventListener("click", () => {
      if (hidden.has(number)) hidden.delete(number);
      else hidden.add(number);
      press();
      draw();
    });
    toggles.append(button);
  });
  // Of many those that are drawn stand first.
  toggles.prepend(...[...toggles.children].filter((button) => data.series[button.dataset.number].shown));
  const press = () => [...toggles.children].forEach((button) => {
    button.setAttribute("aria-pressed", String(!hidden.has(Number(button.dataset.number))));
  });
  press();

  const mean = (runs) => {
    const length = Math.min(...runs.map((run) => run.length));
    return Array.from({ length }, (_, at) => {
      const values = runs.map((run) => run[at]);
      return values.includes(null) ? null : values.reduce((one, other) => one + other, 0) / values.length;
    });
  };

  const shown = (values, metric) => values.map((value) => (
    value === null || (log.checked && value <= 0) ? null : value * metric.scale));

  const text = (value) => (value === null || value === undefined ? "\u2013" : Number(value.toPrecision(4)).toString());

  function tell(at, metric, means) {
    if (at === null || at === undefined) { readout.textContent = ""; return; }
    const parts = data.series.flatMap((series, number) => (
      hidden.has(number) || !means[number] ? [] : [`${series.name}: ${text(means[number][at])}`]));
    readout.textContent = `Epoch ${epochs[at]}, ${metric.title}${metric.unit ? ` (${metric.unit})` : ""}, mean. ${parts.join(" \u00b7 ")}`;
  }

  function draw() {
    const metric = metricOf.get(select.value);
    const length = Math.max(1, ...metric.runs.flat().map((run) => run.length));
    const columns = [epochs.slice(0, length)];
    const series = [{}];
    const means = [];
    const add = (values, options) => {
      columns.push(Array.from({ length }, (_, at) => values[at] ?? null));
      series.push({ spanGaps: false, points: { show: values.filter((value) => value !== null).length === 1 }, ...options });
    };
    metric.runs.forEach((runs, number) => {
      const known = runs.filter((run) => run.some((value) => value !== null));
      if (hidden.has(number) || !known.length) return;
      const colour = page.colour(`--series-${data.series[number].colour}`);
      if (every.checked && known.length > 1) {
        for (const run of known) add(shown(run, metric), { stroke: colour, alpha: 0.35, width: 1 });
      }
    });
    metric.runs.forEach((runs, number) => {
      const known = runs.filter((run) => run.some((value) => value !== null));
      if (hidden.has(number) || !known.length) return;
      const colour = page.colour(`--series-${data.series[number].colour}`);
      means[number] = shown(mean(known), metric);
      add(means[number], { stroke: colour, width: 2.5, dash: dash(data.series[number]) });
    });
    const ink = page.colour("--ink");
    const axis = {
      stroke: ink, font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif",
      grid: { stroke: page.colour("--rule"), width: 1 }, ticks: { stroke: page.colour("--rule"), width: 1 },
    };
    const width = Math.max(200, Math.floor(place.getBoundingClientRect().width));
    chart?.destroy();
    chart = new uPlot({
      width,
      height: Math.round(Math.min(420, Math.max(260, width * 0.45))),
      legend: { show: false },
      cursor: { drag: { x: true, y: true }, points: { size: 6 } },
      scales: { x: { time: false }, y: log.checked ? { distr: 3 } : {} },
      axes: [
        { ...axis, label: "epoch", incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10000, 100000] },
        { ...axis, label: metric.unit ? `${metric.title} (${metric.unit})` : metric.title, size: 62,
          values: (_, ticks) => ticks.map((value) => (value === null ? "" : Number(value.toPrecision(4)).toString())) },
      ],
      series,
      hooks: { setCursor: [(plot) => tell(plot.cursor.idx, metric, means)] },
    }, columns, place);
  }

  place.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !chart) return;
    event.preventDefault();
    const from = chart.cursor.idx ?? (step > 0 ? -1 : chart.data[0].length);
    const at = Math.min(chart.data[0].length - 1, Math.max(0, from + step));
    chart.setCursor({ left: chart.valToPos(epochs[at], "x"), top: 10 });
  });

  document.getElementById("curves-csv").addEventListener("click", () => {
    const metric = metricOf.get(select.value);
    const rows = metric.runs.flatMap((runs, number) => runs.flatMap((run, nth) => run.map((value, at) => (
      [data.series[number].name, data.series[number].seeds[nth], epochs[at], value]))));
    page.save(`curves-${metric.key}.csv`, page.csv([["variant", "seed", "epoch", metric.title], ...rows]));
  });

  if (data.every > 1) {
    document.getElementById("curves-thinned").textContent = `Of every ${data.every} epochs the last one is here, for there are very many numbers; the historys of the runs have all.`;
  }
  if (data.series.length > 12) {
    const choose = (text, wanted) => {
      const button = page.element("button", { type: "button", text });
      button.addEventListener("click", () => {
        hidden.clear();
        data.series.forEach((series, number) => { if (!wanted(series)) hidden.add(number); });
        press();
        draw();
      });
      return button;
    };
    document.getElementById("curves-choice").append(
      choose("all", () => true), choose("none", () => false), choose("the best and the baseline", (series) => series.shown));
  }
  document.getElementById("curves-chart").hidden = false;
  for (const control of [select, log, every]) control.addEventListener("change", draw);
  page.onTheme.push(draw);
  let last = Math.round(place.getBoundingClientRect().width);
  new ResizeObserver(([entry]) => {
    const width = Math.round(entry.contentRect.width);
    if (width !== last) { last = width; draw(); }
  }).observe(place);
  draw();
})());
