"use strict";
// Plays the frames of one replicate on a canvas, with a cursor through the curves. Text is only ever set as text.
const data = JSON.parse(document.getElementById("replay").textContent);
const last = data.steps.length - 1;
const byId = (id) => document.getElementById(id);
const view = byId("view"), slider = byId("slider"), play = byId("play");
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const PLAY_MS = 8000, MOMENTS = 8;
let frame = last, playing = false, timer = 0;

const on = (id) => byId(id)?.checked ?? false;
const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const grounds = new Map();

// What D says over the plane, as a small picture that the canvas stretches; made when first seen.
function ground(i) {
  if (!grounds.has(i)) {
    const side = data.landscape.side, shares = bytes(data.landscape.frames[i]);
    const small = Object.assign(document.createElement("canvas"), { width: side, height: side });
    const picture = small.getContext("2d").createImageData(side, side);
    const [low, middle, high] = data.colours;
    shares.forEach((share, place) => {
      const half = share / 127.5, [from, to, t] = half < 1 ? [low, middle, half] : [middle, high, half - 1];
      const at = 4 * ((side - 1 - Math.floor(place / side)) * side + (place % side));
      for (let c = 0; c < 3; c++) picture.data[at + c] = from[c] + (to[c] - from[c]) * t;
      picture.data[at + 3] = 255;
    });
    small.getContext("2d").putImageData(picture, 0, 0);
    grounds.set(i, small);
  }
  return grounds.get(i);
}

function each(points, size, act) {
  const half = size / 2;
  for (let j = 0; j < points.length; j += 2) {
    const x = points[j], y = points[j + 1];
    if (x === null || y === null) continue;
    act(half + ((x - data.middle[0]) / data.reach) * half, half - ((y - data.middle[1]) / data.reach) * half, j);
  }
}

function dots(pen, points, size, radius, colour) {
  pen.fillStyle = colour;
  each(points, size, (x, y) => {
    if (x < 0 || y < 0 || x > size || y > size) return;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 7);
    pen.fill();
  });
}

function drawPlane(pen, size, i, small) {
  const unit = size / 540, points = data.points[i];
  if (data.landscape && (small || on("landscape"))) {
    pen.imageSmoothingEnabled = true;
    pen.drawImage(ground(i), 0, 0, size, size);
  }
  dots(pen, data.real, size, (small ? 3 : 1.5) * unit, "rgba(120, 130, 140, .55)");
  if (!small && i > 0 && on("trails")) trails(pen, size, data.points[i - 1], points);
  pen.strokeStyle = "#d55e00";
  pen.lineWidth = (small ? 4 : 1.6) * unit;
  const arm = (small ? 12 : 6) * unit;
  each(data.centres, size, (x, y) => pen.stroke(new Path2D(`M${x - arm} ${y}H${x + arm}M${x} ${y - arm}V${y + arm}`)));
  dots(pen, points, size, (small ? 8 : 2.8) * unit, "rgba(11, 92, 138, .8)");
  if (!small) outside(pen, size, points, unit);
}

// The path of one point, older parts fainter, around the equilibrium at the crossing of the axes.
function drawOrbit(pen, size, i, small) {
  const unit = size / 540, half = size / 2, path = data.points.slice(0, i + 1).flat();
  pen.strokeStyle = "#c9d0d6";
  pen.lineWidth = unit;
  pen.stroke(new Path2D(`M0 ${half}H${size}M${half} 0V${size}`));
  pen.lineWidth = (small ? 5 : 1.6) * unit;
  let from = null;
  each(path, size, (x, y, j) => {
    if (from) {
      pen.strokeStyle = `rgba(11, 92, 138, ${0.3 + 0.6 * (j / path.length) ** 2})`;
      pen.stroke(new Path2D(`M${from[0]} ${from[1]}L${x} ${y}`));
    }
    from = [x, y];
  });
  dots(pen, data.centres, size, (small ? 12 : 4) * unit, "#d55e00");
  dots(pen, data.points[i], size, (small ? 22 : 6) * unit, "#0b5c8a");
  if (small) return;
  pen.fillStyle = "#5b6670";
  pen.font = `${13 * unit}px system-ui, sans-serif`;
  pen.textAlign = "right";
  pen.fillText("generator θ", size - 10 * unit, half - 8 * unit);
  pen.textAlign = "left";
  pen.fillText("discriminator ψ", half + 8 * unit, 18 * unit);
}

function trails(pen, size, before, after) {
  const from = new Map();
  each(before, size, (x, y, j) => from.set(j, [x, y]));
  pen.strokeStyle = "rgba(11, 92, 138, .25)";
  pen.lineWidth = 1.2 * size / 540;
  pen.beginPath();
  each(after, size, (x, y, j) => {
    if (!from.has(j)) return;
    pen.moveTo(...from.get(j));
    pen.lineTo(x, y);
  });
  pen.stroke();
}

// Samples beyond the square: a ring on its edge where they left, and how many they are.
function outside(pen, size, points, unit) {
  let count = points.filter((_, j) => j % 2 === 0 && (points[j] === null || points[j + 1] === null)).length;
  const edge = (v) => Math.min(Math.max(v, 5 * unit), size - 5 * unit);
  pen.strokeStyle = "rgba(168, 58, 0, .7)";
  pen.lineWidth = 1.2 * unit;
  each(points, size, (x, y) => {
    if (x >= 0 && y >= 0 && x <= size && y <= size) return;
    count += 1;
    pen.beginPath();
    pen.arc(edge(x), edge(y), 3 * unit, 0, 7);
    pen.stroke();
  });
  if (!count) return;
  pen.fillStyle = "#1d2329";
  pen.font = `${13 * unit}px system-ui, sans-serif`;
  pen.textAlign = "right";
  pen.fillText(`${count} of ${points.length / 2} outside`, size - 12 * unit, size - 12 * unit);
}

const sprite = data.tiles ? new Image() : null, real = data.tiles ? new Image() : null;

function drawTiles(pen, size, i, small) {
  const { across, cells } = data.tiles, part = small ? Math.min(3, cells) / cells : 1;
  const [width, height] = [data.tiles.width, data.tiles.height].map((whole) => (whole + 1) * part - 1);
  const scale = size / Math.max(width, height), w = width * scale, h = height * scale;
  pen.imageSmoothingEnabled = false;
  const place = [(size - w) / 2, (size - h) / 2, w, h];
  if (!small && on("real")) pen.drawImage(real, 0, 0, real.naturalWidth, real.naturalHeight, ...place);
  else pen.drawImage(sprite, (i % across) * data.tiles.width, Math.floor(i / across) * data.tiles.height, width, height, ...place);
}

function paint(canvas, i, small) {
  const size = Math.round(canvas.clientWidth * Math.max(devicePixelRatio, 1)) || canvas.width;
  if (canvas.width !== size) canvas.width = canvas.height = size;
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, size, size);
  ({ plane: drawPlane, orbit: drawOrbit, images: drawTiles })[data.kind](pen, size, i, small);
}

const charts = [...document.querySelectorAll(".chart")].map((chart) => {
  const axis = chart.querySelector(".axis"), from = Number(axis.getAttribute("x1")), to = Number(axis.getAttribute("x2"));
  return { chart, cursor: chart.querySelector(".cursor"), from, to };
});

function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return size !== 0 && (size < 0.001 || size >= 10000) ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

// Everything on the page that belongs to one frame.
function show(i) {
  frame = Math.min(Math.max(i, 0), last);
  const step = data.steps[frame], { steps, alive, values } = data.evaluations;
  slider.value = frame;
  slider.setAttribute("aria-valuetext", `step ${step}`);
  byId("step").textContent = `step ${step.toLocaleString("en-US")}`;
  const now = steps.findLastIndex((measured) => measured <= step);
  byId("remark").textContent = now >= 0 && !alive[now] ? "ended here: non-finite" : "";
  for (const output of document.querySelectorAll("output[data-value]")) {
    const numbers = values[output.dataset.value].slice(0, now + 1);
    output.textContent = short(numbers.findLast((number) => number !== null));
  }
  for (const { cursor, from, to } of charts) {
    const x = from + ((to - from) * step) / Math.max(data.horizon, 1);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
  }
  if (data.landscape) byId("range").textContent = `(${short(data.landscape.low[frame])} to ${short(data.landscape.high[frame])})`;
  if (view) paint(view, frame, false);
  let current = null;
  for (const button of byId("strip")?.children ?? []) {
    button.removeAttribute("aria-current");
    if (Number(button.dataset.frame) <= frame) current = button;
  }
  current?.setAttribute("aria-current", "true");
}

function setPlaying(wanted) {
  playing = wanted;
  play.setAttribute("aria-pressed", String(wanted));
  play.querySelector("span").textContent = wanted ? "Pause" : frame === last ? "Play" : "Go on";
  clearTimeout(timer);
  if (!wanted) return;
  if (frame === last) show(0);
  timer = setTimeout(tick, pause());
}

// Who asked for less motion gets single frames, one a second at most.
const pause = () => Math.max(PLAY_MS / (last + 1) / Number(byId("speed").value), calm ? 1000 : 16);

function tick() {
  show(frame + 1);
  if (frame === last) setPlaying(false);
  else timer = setTimeout(tick, pause());
}

function go(i) {
  show(i);
  setPlaying(false);
}

function makeStrip() {
  const shown = [...new Set(Array.from({ length: MOMENTS }, (_, j) => Math.round((j * last) / (MOMENTS - 1))))];
  for (const i of shown) {
    const button = document.createElement("button"), canvas = document.createElement("canvas");
    button.type = "button";
    button.dataset.frame = i;
    canvas.width = canvas.height = 120;
    button.append(canvas, data.steps[i].toLocaleString("en-US"));
    button.addEventListener("click", () => go(i));
    byId("strip").append(button);
  }
}

const paintStrip = () => { for (const button of byId("strip")?.children ?? []) paint(button.firstChild, Number(button.dataset.frame), true); };

function nearest(step) {
  return data.steps.reduce((best, other, i) => (Math.abs(other - step) < Math.abs(data.steps[best] - step) ? i : best), 0);
}

play.addEventListener("click", () => setPlaying(!playing));
slider.addEventListener("input", () => go(Number(slider.value)));
for (const id of ["trails", "landscape", "real"]) byId(id)?.addEventListener("change", () => show(frame));
for (const { chart, from, to } of charts) {
  chart.addEventListener("click", (event) => {
    const box = chart.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
    go(nearest((data.horizon * (x - from)) / (to - from)));
  });
}
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input, button, a") && event.key !== "Escape") {
    if (event.target !== slider || event.key !== " ") return;
  }
  const moves = { ArrowLeft: frame - 1, ArrowRight: frame + 1, Home: 0, End: last };
  if (event.key === " ") setPlaying(!playing);
  else if (event.key in moves) go(moves[event.key]);
  else return;
  event.preventDefault();
});
let before = last;
addEventListener("beforeprint", () => { before = frame; go(last); });
addEventListener("afterprint", () => go(before));
addEventListener("resize", () => { show(frame); paintStrip(); });

async function begin() {
  if (data.tiles) {
    sprite.src = data.tiles.sprite;
    real.src = data.tiles.real;
    await Promise.all([sprite.decode(), real.decode()]);
  }
  if (view) makeStrip();
  show(last);
  paintStrip();
  document.documentElement.dataset.ready = "yes";
}
const begun = begin();
