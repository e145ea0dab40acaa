"use strict";
// What is shown stands in the address: #sort=batch_size&down=1&find=lars&curve=loss; or #run12, a row.
const byId = id => document.getElementById(id);
const [table, find, measure, count, chart, legend, batches, keys] =
  ["runs", "find", "measure", "count", "curve", "legend", "batches", "keys"].map(byId);
const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0], rows = [...body.rows];
const words = new Map(rows.map(row =>                       // 8,192 is found as 8192 too
  [row, [row.textContent, ...[...row.cells].map(cell => cell.dataset.v)].join(" ").toLowerCase()]));
const curves = JSON.parse(byId("curves").textContent);
const SHOWN = 8;
const LINES = [["#12365a", ""], ["#c8641e", "7 4"], ["#7fb2d9", ""], ["#6d6d6d", "2 3"],
               ["#111111", "9 3 2 3"], ["#b9955c", "4 2"], ["#12365a", "2 2"], ["#c8641e", "1 4"]];

function state() {
  return new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
}

function go(changes) {
  const next = state();
  for (const [key, value] of Object.entries(changes)) value ? next.set(key, value) : next.delete(key);
  history.replaceState(null, "", "#" + next);
  show();
}

function sorted(column, down) {
  if (column < 0) return rows;
  const numeric = heads[column].classList.contains("number");
  const compare = numeric ? (a, b) => a - b : (a, b) => a.localeCompare(b, "en", {numeric: true});
  const keyed = rows.map(row => [row.cells[column].dataset.v, row]);
  const known = keyed.filter(([key]) => key !== "").sort((a, b) => (down ? -1 : 1) * compare(a[0], b[0]));
  return [...known, ...keyed.filter(([key]) => key === "")].map(([, row]) => row);     // what is missing comes last
}

function show() {
  const now = state(), down = now.get("down") === "1", column = heads.findIndex(head => head.dataset.key === now.get("sort"));
  const wanted = (now.get("find") || "").toLowerCase().split(/\s+/).filter(Boolean);
  if (document.activeElement !== find) find.value = now.get("find") || "";
  measure.value = now.get("curve") || "error";
  heads.forEach((head, at) => head.setAttribute("aria-sort", at !== column ? "none" : down ? "descending" : "ascending"));
  const shown = sorted(column, down).filter(row => wanted.every(word => words.get(row).includes(word)));
  body.replaceChildren(...shown);
  count.textContent = shown.length < rows.length ? `${shown.length} of ${rows.length} runs` : `${rows.length} runs`;
  draw(shown.slice(0, SHOWN));
  drawBatches(shown);
  const row = /^#run\d+$/.test(location.hash) && byId(location.hash.slice(1));
  if (row) { row.querySelector("details").open = true; row.scrollIntoView({block: "center"}); }
}

function make(name, attributes, ...inside) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...inside);
  return node;
}

function horizontals(on, [low, high], y) {                  // lines and labels at 1, 2 and 5 times powers of ten
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const tick of [1, 2, 5].map(digit => digit * 10 ** power).filter(tick => y(tick) >= 19 && y(tick) <= 311))
      on.append(make("line", {x1: 60, x2: 880, y1: y(tick), y2: y(tick), stroke: "#e4e4e4"}),
                make("text", {x: 54, y: y(tick) + 4, "text-anchor": "end"}, short(tick)));
}

const short = number => Number(number.toPrecision(3)).toString();

function draw(shown) {                                      // logarithmic upwards, epochs to the right
  chart.replaceChildren();
  legend.replaceChildren();
  const series = shown.map(row => [row, ((curves[row.id] || {})[measure.value] || []).filter(point => point[1] > 0)])
                      .filter(([, points]) => points.length);
  const all = series.flatMap(([, points]) => points);
  const nothing = () => make("text", {x: 450, y: 180, "text-anchor": "middle"}, "these runs hold no such numbers");
  if (!all.length) return chart.append(nothing());
  const right = Math.max(...all.map(point => point[0])) || 1, heights = all.map(point => Math.log10(point[1]));
  const low = Math.min(...heights), span = Math.max(Math.max(...heights) - low, 0.05);
  const x = epoch => 60 + 820 * epoch / right, y = value => 20 + 290 * (1 - (Math.log10(value) - low) / span);
  horizontals(chart, [10 ** low, 10 ** (low + span)], y);
  for (const part of [0, 0.25, 0.5, 0.75, 1])
    chart.append(make("text", {x: x(right * part), y: 330, "text-anchor": "middle"}, short(right * part)));
  chart.append(make("text", {x: 470, y: 350, "text-anchor": "middle"}, "epochs"));
  series.forEach(([row, points], at) => {
    const [stroke, dash] = LINES[at], look = {stroke, "stroke-width": 2, "stroke-dasharray": dash, fill: "none"};
    const places = points.map(([epoch, value]) => `${x(epoch).toFixed(1)},${y(value).toFixed(1)}`);
    chart.append(points.length > 1 ? make("polyline", {...look, points: places.join(" ")})
                                   : make("circle", {cx: x(points[0][0]), cy: y(points[0][1]), r: 4, fill: stroke}));
    const item = document.createElement("li"), link = document.createElement("a");
    link.href = "#" + row.id;
    link.textContent = row.dataset.name;
    item.append(make("svg", {width: 34, height: 8}, make("line", {x1: 0, x2: 34, y1: 4, y2: 4, ...look})), link);
    legend.append(item);
  });
}

const MARKS = ["M-5-5H5V5H-5Z", "M0-6L6 5H-6Z", "M0-6L6 0L0 6L-6 0Z", "M-5-2H-2V-5H2V-2H5V2H2V5H-2V2H-5Z", "M0 6L6-5H-6Z",
               "M-4-4L4 4M4-4L-4 4", "M-5 0H5M0-5V5", "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0-5 0Z"];
const at = Object.fromEntries(heads.map((head, place) => [head.dataset.key, place]));
const value = (row, key) => key in at ? row.cells[at[key]].dataset.v : "";
// By all runs, so that a filter changes no one's mark; after eight the same marks come in other colours.
const names = [...new Set(rows.map(row => value(row, "optimizer")))].sort();
const look = name => {
  const order = names.indexOf(name), color = LINES[order % 6][0];
  return {d: MARKS[order % MARKS.length], stroke: color, "stroke-width": 1.5, fill: color, "fill-opacity": 0.35};
};

function drawBatches(shown) {                               // a mark a run; both axes logarithmic
  const counted = shown.filter(row => ["", "final"].includes(value(row, "part")) && value(row, "batch_size") > 0);
  const ended = ["test", "validation"].map(split => [split, counted.filter(row => value(row, `${split}_accuracy`) !== "")]);
  const [split, all] = ended.find(([, found]) => found.length) || ["test", []];
  const sets = new Map();                                   // accuracies of two data sets have nothing to do with each other
  for (const row of all) sets.set(value(row, "dataset"), (sets.get(value(row, "dataset")) || 0) + 1);
  const [dataset] = [...sets].sort((a, b) => b[1] - a[1])[0] || [""];
  const points = all.filter(row => value(row, "dataset") === dataset).map(row =>
    ({row, batch: +value(row, "batch_size"), percent: +value(row, `${split}_accuracy`)}))
    .map(point => ({...point, error: Math.max(100 - point.percent, 0.01)}));
  const sizes = [...new Set(points.map(point => point.batch))].sort((a, b) => a - b);
  byId("of-batches").hidden = sizes.length < 2;
  if (sizes.length < 2) return;
  batches.replaceChildren();
  keys.replaceChildren();
  batches.setAttribute("aria-label", `${dataset}: ${split} error against batch size of ${points.length} runs of the table`);
  const heights = points.map(point => Math.log10(point.error)), low = Math.min(...heights);
  const span = Math.max(Math.max(...heights) - low, 0.05), wide = Math.log2(sizes.at(-1) / sizes[0]);
  const x = batch => 80 + 780 * Math.log2(batch / sizes[0]) / wide;
  const y = error => 20 + 290 * (1 - (Math.log10(error) - low) / span);
  horizontals(batches, [10 ** low, 10 ** (low + span)], y);
  let end = Infinity;                                       // the largest batch is what a reader looks for
  for (const size of [...sizes].reverse().filter(size => end - x(size) > 48 && (end = x(size), true)))
    batches.append(make("text", {x: x(size), y: 330, "text-anchor": "middle"}, size.toLocaleString("en")));
  const diverged = counted.filter(row => value(row, "status") === "diverged").length;
  const apart = [[diverged, "diverged"], [all.length - points.length, "of other data sets"]]
    .filter(([number]) => number).map(([number, what]) => `${number} ${what}`);
  const left = apart.length ? `; not drawn: ${apart.join(", ")}` : "";
  const axes = `images an update; upwards: ${dataset}, ${split} error (%)${left}`;
  batches.append(make("text", {x: 470, y: 350, "text-anchor": "middle"}, axes));
  for (const {row, batch, percent, error} of points) {
    const marks = value(row, "marks");
    const words = `${row.dataset.name}: ${percent.toFixed(2)}% at ${batch.toLocaleString("en")}${marks && `; ${marks}`}`;
    const place = `translate(${x(batch).toFixed(1)} ${y(error).toFixed(1)})`;
    const mark = make("path", {...look(value(row, "optimizer")), transform: place});
    batches.append(make("a", {href: "#" + row.id, tabindex: -1}, make("title", {}, words), mark));   // the table has the links
  }
  const drawn = new Set(points.map(point => value(point.row, "optimizer")));
  for (const name of names.filter(name => drawn.has(name))) {
    const item = document.createElement("li");
    item.append(make("svg", {width: 16, height: 14}, make("path", {...look(name), transform: "translate(8 7)"})), name);
    keys.append(item);
  }
}

heads.forEach(head => head.querySelector("button").addEventListener("click", () =>
  go({sort: head.dataset.key, down: head.getAttribute("aria-sort") === "ascending" ? "1" : ""})));
find.addEventListener("input", () => go({find: find.value}));
measure.addEventListener("change", () => go({curve: measure.value}));
window.addEventListener("hashchange", show);
show();
