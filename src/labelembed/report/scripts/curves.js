"use strict";
// The interactive curves: uPlot draws, this says what. The drawn figures stay for print and for download.

(() => {
  const data = page.data("curves-data");
  if (!data || typeof uPlot === "undefined") return;
  const measureOf = new Map(data.measures.map((measure) => [measure.key, measure]));
  const select = document.getElementById("curves-measure");
  const log = document.getElementById("curves-log");
  const every = document.getElementById("curves-runs");
  const place = document.getElementById("curves-plot");
  const readout = document.getElementById("curves-readout");
  const hidden = new Set();
  let chart = null;

  for (const measure of data.measures) select.append(page.element("option", { value: measure.key, text: measure.title }));

  const dash = (series) => (series.dash.length ? series.dash : undefined);
  const toggles = document.getElementById("curves-toggles");
  data.series.forEach((series, number) => {
    const sample = `<svg width="34" height="8" aria-hidden="true"><line x1="1" y1="4" x2="33" y2="4" stroke="var(--series-${Number(series.colour)})" stroke-width="2.5" stroke-dasharray="${series.dash.map(Number).join(" ")}"/></svg>`;
    const button = page.element("button", { type: "button", "aria-pressed": "true", dir: "auto" });
    button.innerHTML = sample;
    button.append(page.element("span", { text: series.name }));
    button.addEventListener("click", () => {
      if (hidden.has(number)) hidden.delete(number);
      else hidden.add(number);
      button.setAttribute("aria-pressed", String(!hidden.has(number)));
      draw();
    });
    toggles.append(button);
  });

  const mean = (runs) => {
    const length = Math.min(...runs.map((run) => run.length));
    return Array.from({ length }, (_, epoch) => {
      const values = runs.map((run) => run[epoch]);
      return values.includes(null) ? null : values.reduce((one, other) => one + other, 0) / values.length;
    });
  };

  const shown = (values, measure) => values.map((value) => (
    value === null || (log.checked && value <= 0) ? null : value * measure.scale));

  const text = (value) => (value === null || value === undefined ? "\u2013" : Number(value.toPrecision(4)).toString());

  function tell(epoch, measure, means) {
    if (epoch === null || epoch === undefined) { readout.textContent = ""; return; }
    const parts = data.series.flatMap((series, number) => (
      hidden.has(number) || !means[number] ? [] : [`${series.name}: ${text(means[number][epoch])}`]));
    readout.textContent = `Epoch ${epoch + 1}, ${measure.title}${measure.unit ? ` (${measure.unit})` : ""}, mean. ${parts.join(" \u00b7 ")}`;
  }

  function draw() {
    const measure = measureOf.get(select.value);
    const epochs = Math.max(1, ...measure.runs.flat().map((run) => run.length));
    const columns = [Array.from({ length: epochs }, (_, epoch) => epoch + 1)];
    const series = [{}];
    const means = [];
    const add = (values, options) => {
      columns.push(Array.from({ length: epochs }, (_, epoch) => values[epoch] ?? null));
      series.push({ spanGaps: false, points: { show: values.filter((value) => value !== null).length === 1 }, ...options });
    };
    measure.runs.forEach((runs, number) => {
      const known = runs.filter((run) => run.some((value) => value !== null));
      if (hidden.has(number) || !known.length) return;
      const colour = page.colour(`--series-${data.series[number].colour}`);
      if (every.checked && known.length > 1) {
        for (const run of known) add(shown(run, measure), { stroke: colour, alpha: 0.35, width: 1 });
      }
    });
    measure.runs.forEach((runs, number) => {
      const known = runs.filter((run) => run.some((value) => value !== null));
      if (hidden.has(number) || !known.length) return;
      const colour = page.colour(`--series-${data.series[number].colour}`);
      means[number] = shown(mean(known), measure);
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
        { ...axis, label: measure.unit ? `${measure.title} (${measure.unit})` : measure.title, size: 62,
          values: (_, ticks) => ticks.map((value) => (value === null ? "" : Number(value.toPrecision(4)).toString())) },
      ],
      series,
      hooks: { setCursor: [(plot) => tell(plot.cursor.idx, measure, means)] },
    }, columns, place);
    for (const figure of document.querySelectorAll("[data-curve]")) {
      figure.classList.toggle("current", figure.dataset.curve === `curves-${measure.key}`);
    }
  }

  let epoch = 0;
  place.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !chart) return;
    event.preventDefault();
    epoch = Math.min(chart.data[0].length - 1, Math.max(0, (chart.cursor.idx ?? epoch - step) + step));
    chart.setCursor({ left: chart.valToPos(epoch + 1, "x"), top: 10 });
  });

  // The numbers of all runs go with each drawn figure.
  for (const figure of document.querySelectorAll("[data-curve] figure")) {
    const measure = measureOf.get(figure.dataset.figure.replace(/^curves-/, ""));
    const button = page.element("button", { type: "button", text: "CSV", "aria-label": `CSV of ${measure.title}` });
    button.addEventListener("click", () => {
      const rows = measure.runs.flatMap((runs, number) => runs.flatMap((run, nth) => run.map((value, at) => (
        [data.series[number].name, data.series[number].seeds[nth], at + 1, value]))));
      page.save(`${figure.dataset.figure}.csv`, page.csv([["variant", "seed", "epoch", measure.title], ...rows]));
    });
    figure.querySelector(".downloads").append(button);
  }

  document.getElementById("curves-chart").hidden = false;
  document.getElementById("curves").classList.add("live");
  for (const control of [select, log, every]) control.addEventListener("change", draw);
  page.onTheme.push(draw);
  let last = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.round(entry.contentRect.width);
    if (width !== last) { last = width; draw(); }
  }).observe(place);
  draw();
})();
