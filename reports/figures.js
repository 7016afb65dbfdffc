"use strict";
// Draws every figure from the JSON beside it, gives text and grid the colours of the page, light or dark, and offers each
// figure's numbers and files.
(() => {
  const matches = (query) => window.matchMedia(query).matches;
  const config = { responsive: true, displaylogo: false, displayModeBar: false, showSendToCloud: false };

  const theme = (layout) => {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const update = {
      "font.color": color("--ink"),
      "hoverlabel.bgcolor": color("--card"),
      "hoverlabel.font.color": color("--ink"),
      // a finger on a figure scrolls the page
      dragmode: matches("(pointer: coarse)") ? false : "zoom",
    };
    for (const key of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))) {
      update[`${key}.gridcolor`] = color("--line");
      update[`${key}.zerolinecolor`] = color("--line");
    }
    return update;
  };

  // plotly's own arrays are base64 of typed numbers
  const TYPES = { f8: Float64Array, f4: Float32Array, i4: Int32Array, u4: Uint32Array, i2: Int16Array, u2: Uint16Array, i1: Int8Array, u1: Uint8Array };
  const plain = (values) => {
    if (values === undefined || values === null) return [];
    if (!values.bdata) return [...values];
    const bytes = Uint8Array.from(atob(values.bdata), (character) => character.charCodeAt(0));
    return [...new TYPES[values.dtype](bytes.buffer)];
  };

  // what a trace shows, a row a point; of a bar or a row of a list, what its place on the axis is called
  const text = (label) => {
    const entities = { "&lt;": "<", "&gt;": ">", "&amp;": "&" };
    return String(label).replace(/<[^>]*>/g, " ").replace(/&(?:lt|gt|amp);/g, (entity) => entities[entity]);
  };
  const rowsOf = (trace, layout) => {
    const named = (axis, value) => {
      const { tickvals, ticktext } = layout[axis.replace(/^(.)/, "$1axis")] ?? {};
      // marks of a row stand beside its middle
      const place = ticktext && typeof value === "number" ? plain(tickvals).indexOf(Math.round(value)) : -1;
      return place < 0 ? value : text(ticktext[place]);
    };
    const name = trace.name === undefined ? (trace.legendgroup ?? "") : text(trace.name);
    const [xs, ys] = [plain(trace.x), plain(trace.y)];
    if (trace.z) {
      const grid = trace.z.bdata ? unfold(trace.z) : trace.z.map(plain);
      return grid.flatMap((line, row) => line.map((value, column) => [name, xs[column] ?? column, ys[row] ?? row, value]));
    }
    return ys.map((y, place) => [name, named(trace.xaxis ?? "x", xs[place] ?? place), named(trace.yaxis ?? "y", y), ""]);
  };
  const unfold = (z) => {
    const [rows, columns] = z.shape.split(",").map(Number);
    const flat = plain(z);
    return Array.from({ length: rows }, (_, row) => flat.slice(row * columns, (row + 1) * columns));
  };

  const numbersOf = ({ data, layout }) => {
    const rows = data.filter((trace) => trace.fill !== "toself").flatMap((trace) => rowsOf(trace, layout));
    return [["trace", "x", "y", "value"], ...rows.map((row) => row.map((cell) => (cell === null || Number.isNaN(cell) ? "" : String(cell ?? ""))))];
  };

  const MAX_ROWS = 300; // of the table below a figure; its file has all
  const tableOf = (rows) => {
    const table = document.createElement("table");
    const add = (parent, tag, cells) => {
      const row = parent.insertRow();
      for (const cell of cells) row.append(Object.assign(document.createElement(tag), { textContent: cell }));
      if (tag === "th") [...row.cells].forEach((cell) => (cell.scope = "col"));
    };
    add(table.createTHead(), "th", rows[0]);
    const body = table.createTBody();
    rows.slice(1, MAX_ROWS + 1).forEach((row) => add(body, "td", row));
    return table;
  };

  const equip = (plot, source) => {
    const details = plot.closest("figure").querySelector(".numbers");
    const name = plot.dataset.name;
    const image = (format) => () =>
      Plotly.downloadImage(plot, { format, filename: name, width: plot.clientWidth, height: plot.clientHeight, scale: format === "png" ? 3 : 1 });
    details.addEventListener("toggle", () => {
      if (!details.open || details.childElementCount > 1) return;
      const rows = numbersOf(source);
      const tools = document.createElement("p");
      tools.append(
        Tables.button("SVG", "Save the figure as SVG", image("svg")),
        Tables.button("PNG", "Save the figure as PNG", image("png")),
        Tables.button("CSV", "Save its numbers as CSV", () => Tables.download(Tables.fileName(name, "csv"), Tables.csv(rows), "text/csv")),
      );
      const box = document.createElement("div");
      box.className = "scroll long";
      box.tabIndex = 0;
      box.setAttribute("role", "region");
      box.setAttribute("aria-label", `Numbers of ${plot.getAttribute("aria-label")}`);
      box.append(tableOf(rows));
      details.append(tools, box);
    });
  };

  const plots = [...document.querySelectorAll(".plot")];
  const boxes = [...document.querySelectorAll(".arms input")];
  const draw = async (plot) => {
    const source = JSON.parse(plot.nextElementSibling.textContent);
    equip(plot, source);
    const hidden = new Set(boxes.filter((box) => !box.checked).map((box) => box.value));
    source.data.filter((trace) => hidden.has(trace.legendgroup)).forEach((trace) => (trace.visible = false));
    await Plotly.newPlot(plot, source.data, source.layout, config);
    await Plotly.relayout(plot, theme(plot.layout));
  };
  const repaint = () => plots.filter((plot) => plot.data).forEach((plot) => Plotly.relayout(plot, theme(plot.layout)));

  const show = (box) => {
    for (const plot of plots.filter((each) => each.data)) {
      const own = plot.data.flatMap((trace, index) => (trace.legendgroup === box.value ? [index] : []));
      if (own.length) Plotly.restyle(plot, { visible: box.checked }, own);
    }
  };
  boxes.forEach((box) => box.addEventListener("change", () => show(box)));

  // one after another, so that the page answers meanwhile
  const drawAll = async () => {
    for (const plot of plots) {
      await draw(plot);
      await new Promise((resume) => setTimeout(resume));
    }
  };
  drawAll();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
})();
