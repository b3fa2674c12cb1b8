// Pointing at a replicate's samples lifts its curves out of the others, and the other way round.
for (const cell of document.querySelectorAll("article.cell")) {
  const panels = cell.querySelector(".panels");
  const light = (name) => {
    if (panels) panels.classList.toggle("dim", name !== "");
    for (const part of cell.querySelectorAll("[data-run]")) part.classList.toggle("lit", part.dataset.run === name);
  };
  for (const part of cell.querySelectorAll("[data-run]")) {
    part.addEventListener("pointerenter", () => light(part.dataset.run));
    part.addEventListener("pointerleave", () => light(""));
  }
}
