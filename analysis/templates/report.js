"use strict";
// Two comforts; the page is complete without them: tables sort by a click on a heading (what is unknown stays
// last), and a cell of the phase diagrams shows its row of the cell table below the figure; its link leads to its
// curves and samples. Text is only ever copied as nodes.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("th[data-sort]").forEach((head) => {
    const column = [...head.parentNode.children].indexOf(head);
    const numeric = head.dataset.sort === "number";
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    const text = (row) => row.children[column].dataset.order ?? row.children[column].textContent.trim();
    const value = (row) => (text(row) === "" ? NaN : Number(text(row)));
    const unknown = (row) => (numeric ? Number.isNaN(value(row)) : text(row) === "");
    const compare = (a, b) => (numeric ? value(a) - value(b) || 0 : text(a).localeCompare(text(b)));
    button.addEventListener("click", () => {
      const present = head.getAttribute("aria-sort");
      const down = present ? present === "ascending" : numeric; // names from A on, numbers from the largest
      for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = (a, b) => unknown(a) - unknown(b) || (unknown(a) ? 0 : down ? compare(b, a) : compare(a, b));
      body.append(...[...body.rows].sort(order));
    });
  });
}
const readout = document.getElementById("readout");
for (const link of document.querySelectorAll("a[data-cell]")) {
  const show = () => {
    const row = document.getElementById(link.dataset.cell);
    const pieces = [...row.querySelectorAll("[data-part]")].map((cell) => cell.dataset.part);
    const line = document.createElement("div");
    line.textContent = [...pieces, "click for curves and samples"].join(" · ");
    readout.replaceChildren(line, ...[...row.querySelectorAll(".dots")].map((dots) => dots.cloneNode(true)));
  };
  link.addEventListener("pointerenter", show);
  link.addEventListener("focus", show);
}
