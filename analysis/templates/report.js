"use strict";
// Two comforts; the page is complete without them: tables sort by a click on a heading, and a cell of the
// phase diagrams shows its row of the cell table below the figure. Text is only ever copied as nodes.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("th[data-sort]").forEach((head) => {
    const column = [...head.parentNode.children].indexOf(head);
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      const key = (row) => row.children[column].dataset.order ?? row.children[column].textContent.trim();
      const numeric = head.dataset.sort === "number";
      const compare = (a, b) => (numeric ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b)));
      for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...[...body.rows].sort((a, b) => (down ? compare(b, a) : compare(a, b))));
    });
  });
}
const readout = document.getElementById("readout");
for (const link of document.querySelectorAll("a[data-cell]")) {
  const show = () => {
    const row = document.getElementById(link.dataset.cell);
    const pieces = [...row.querySelectorAll("[data-part]")].map((cell) => cell.dataset.part);
    const line = document.createElement("div");
    line.textContent = pieces.join(" · ");
    readout.replaceChildren(line, ...[...row.querySelectorAll(".dots")].map((dots) => dots.cloneNode(true)));
  };
  link.addEventListener("pointerenter", show);
  link.addEventListener("focus", show);
  link.addEventListener("click", (event) => { event.preventDefault(); show(); });
}
