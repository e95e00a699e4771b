"use strict";
// Search in label names. The page can be read without.
const query = document.getElementById("label-query");
if (query) {
  query.parentElement.hidden = false;
  const rows = [...document.querySelectorAll("[data-table=nearest] tbody tr")];
  query.addEventListener("input", () => {
    const wanted = query.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
  });
}
