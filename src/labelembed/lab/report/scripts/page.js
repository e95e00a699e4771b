"use strict";
// What the whole page shares: opening packed tables, light and dark, sorting, copying, saving files.

const page = {
  element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "text") made.textContent = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  },

  data(id) {
    const found = document.getElementById(id);
    return found ? JSON.parse(found.textContent) : null;
  },

  // One of the style's colours as it is now: by day or by night is decided where it is used.
  colour(name) {
    page.probe ??= document.body.appendChild(page.element("span", { hidden: "" }));
    page.probe.style.color = `var(${name})`;
    return getComputedStyle(page.probe).color;
  },

  // Base64 of deflated bytes, as the report packs its tables.
  async unpacked(text) {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let place = 0; place < raw.length; place += 1) bytes[place] = raw.charCodeAt(place);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).arrayBuffer();
  },

  // The numbers behind a figure: a row of headings, then the rows.
  async numbers(figure) {
    const text = JSON.parse(figure.querySelector("script[data-numbers]").textContent);
    return JSON.parse(new TextDecoder().decode(await page.unpacked(text)));
  },

  save(name, blob) {
    const link = page.element("a", { download: name, href: URL.createObjectURL(blob) });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  },

  csv(rows) {
    const cell = (value) => {
      const text = value === null || value === undefined ? "" : String(value);
      return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return new Blob([rows.map((row) => row.map(cell).join(",")).join("\n") + "\n"], { type: "text/csv" });
  },

  onTheme: [],

  // What has to be unpacked before the page is whole.
  waits: [],
};

(() => {
  const root = document.documentElement;
  const stored = () => { try { return localStorage.getItem("labelembed-theme"); } catch { return null; } };
  const buttons = [...document.querySelectorAll("[data-theme-choice]")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.themeChoice === now));
    for (const told of page.onTheme) told();
  };
  if (["light", "dark"].includes(stored())) root.dataset.theme = stored();
  for (const button of buttons) {
    button.addEventListener("click", () => {
      root.dataset.theme = button.dataset.themeChoice;
      try { localStorage.setItem("labelembed-theme", root.dataset.theme); } catch { /* a page of a file may not */ }
      show();
    });
  }
  dark.addEventListener("change", show);
  document.querySelector(".theme").hidden = false;
  show();
})();

(() => {
  // A click on a heading sorts by it; the number behind a cell counts, not its text.
  const value = (cell) => {
    const data = cell.querySelector("data");
    const text = data ? data.value : cell.textContent.replaceAll("\u2212", "-").replaceAll(",", "").trim();
    const found = parseFloat(text);
    return Number.isFinite(found) && (data || /^[-+\d.]/.test(text)) ? found : null;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    headings.forEach((heading, column) => {
      const button = page.element("button", { type: "button", class: "sort" });
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const falling = heading.getAttribute("aria-sort") === "ascending";
        for (const other of headings) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row, place) => ({ row, place, value: value(row.cells[column]) }));
        const name = (entry) => entry.row.cells[column].textContent.trim();
        const numbers = rows.some((entry) => entry.value !== null) && column > 0;
        rows.sort((one, other) => {
          if (!numbers) return (falling ? -1 : 1) * name(one).localeCompare(name(other)) || one.place - other.place;
          if (one.value === null || other.value === null) return (one.value === null) - (other.value === null);
          return (falling ? other.value - one.value : one.value - other.value) || one.place - other.place;
        });
        body.append(...rows.map((entry) => entry.row));
      });
    });
  }
})();

(() => {
  const select = (node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  };
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const from = document.getElementById(button.dataset.copy);
      let done = true;
      try {
        await navigator.clipboard.writeText(from.textContent);
      } catch {
        select(from);
        done = document.execCommand("copy");
      }
      button.textContent = done ? "copied" : "marked";
      setTimeout(() => { button.textContent = "copy"; }, 2000);
    });
  }
})();

(() => {
  // Translations: by whose score is higher, or as they stand in the text.
  const list = document.getElementById("sentences");
  const choice = document.getElementById("sentence-sort");
  if (!list || !choice) return;
  document.getElementById("sentence-order").hidden = false;
  choice.addEventListener("change", () => {
    const by = {
      method: (item) => -parseFloat(item.dataset.difference),
      baseline: (item) => parseFloat(item.dataset.difference),
      place: (item) => Number(item.dataset.place),
    }[choice.value];
    list.append(...[...list.children].sort((one, other) => by(one) - by(other)));
  });
})();

// What is folded is printed all the same.
addEventListener("beforeprint", () => { for (const folded of document.querySelectorAll("details")) folded.open = true; });
