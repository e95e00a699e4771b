"use strict";
// Sorting of tables and search in label names. The page can be read without.
const number = (text) => parseFloat(text.replaceAll("\u2212", "-").replaceAll(",", "").replace("\u2248", ""));
for (const table of document.querySelectorAll(".sortable table")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map((row) => ({ row, text: row.cells[column].textContent.trim() }));
      const isText = column === 0 || rows.every(({ text }) => Number.isNaN(number(text)));
      rows.sort((one, other) => {
        if (isText) return sign * one.text.localeCompare(other.text);
        const [a, b] = [number(one.text), number(other.text)];
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);  // unknown ones last
        return sign * (a - b);
      });
      table.tBodies[0].append(...rows.map(({ row }) => row));
    });
  });
}

const query = document.getElementById("label-query");
if (query) {
  query.parentElement.hidden = false;
  const rows = [...document.querySelectorAll("[data-table=nearest] tbody tr")];
  query.addEventListener("input", () => {
    const wanted = query.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
  });
}
