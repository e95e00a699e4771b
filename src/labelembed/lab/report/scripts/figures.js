"use strict";
// Every figure as SVG and PNG, its numbers as CSV; every table as CSV.

// A figure of its own, dark on white whatever the page's colours are: it is for paper.
page.standalone = (svg) => {
  const copy = svg.cloneNode(true);
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("xmlns:xlink", "http://www.w3.org/1999/xlink");
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  for (const marked of copy.querySelectorAll(".chosen")) marked.classList.remove("chosen");
  for (const outline of copy.querySelectorAll(".outline")) outline.remove();
  const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ width, height, fill: "#ffffff" })) paper.setAttribute(name, value);
  copy.prepend(paper);
  const text = new XMLSerializer().serializeToString(copy)
    .replace(/var\(--series-\d+, (#\w+)\)/g, "$1")
    .replaceAll("var(--letters, sans-serif)", "system-ui, sans-serif")
    .replaceAll("currentColor", "#1a1b1c");
  return { text, width, height };
};

(() => {
  const png = async ({ text, width, height }) => {
    const image = new Image();
    image.src = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
    await image.decode();
    const canvas = page.element("canvas", { width: Math.round(3 * width), height: Math.round(3 * height) });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(image.src);
    return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
  };

  const button = (text, name, click) => {
    const made = page.element("button", { type: "button", text, "aria-label": `${text} of ${name}` });
    made.addEventListener("click", click);
    return made;
  };

  for (const figure of document.querySelectorAll("figure[data-figure]")) {
    const name = figure.dataset.figure;
    const svg = figure.querySelector("svg");
    const title = svg.querySelector("title").textContent;
    const bar = page.element("div", { class: "downloads" });
    bar.append(
      button("SVG", title, () => page.save(`${name}.svg`, new Blob([page.standalone(svg).text], { type: "image/svg+xml" }))),
      button("PNG", title, async () => page.save(`${name}.png`, await png(page.standalone(svg)))),
    );
    if (figure.querySelector("script[data-numbers]")) {
      bar.append(button("CSV", title, async () => page.save(`${name}.csv`, page.csv(await page.numbers(figure)))));
    }
    figure.append(bar);
  }

  for (const table of document.querySelectorAll("table[data-table]")) {
    const name = table.dataset.table;
    const cell = (one) => {
      const data = one.querySelectorAll("data");
      return data.length === 1 ? data[0].value : one.textContent.replaceAll("\u2212", "-").replace(/\s+/g, " ").trim();
    };
    const bar = page.element("div", { class: "downloads" });
    bar.append(button("CSV", `the table ${name}`, () => {
      page.save(`${name}.csv`, page.csv([...table.rows].map((row) => [...row.cells].map(cell))));
    }));
    table.parentElement.after(bar);
  }
})();
