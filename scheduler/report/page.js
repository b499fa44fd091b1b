"use strict";
// Draws the figures of the page, keeps their time axes together, and draws and explains the swim-lanes.
(function () {
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const config = {
    responsive: true, displaylogo: false, doubleClick: "reset",
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
  };
  const timed = []; // plots that share the time axis
  const pending = [];
  let linking = false;

  const ARRAYS = { f8: Float64Array, u1: Uint8Array, u2: Uint16Array };
  function unpacked(spec) {
    const text = atob(spec.bdata), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return new ARRAYS[spec.dtype](bytes.buffer);
  }

  function clock(at) {
    const s = Math.round((at - page.lanes.zero) / 100) / 10, sign = s < 0 ? "-" : "", a = Math.abs(s);
    const two = (n) => String(Math.floor(n)).padStart(2, "0");
    const day = Math.floor(a / 86400), rest = a % 86400;
    const text = two(rest / 3600) + ":" + two((rest / 60) % 60) + ":" + two(rest % 60);
    return (day ? "day " + (day + 1) + ", " : "") + sign + text;
  }
  function length(ms) {
    const s = ms / 1000;
    if (s < 60) return s.toFixed(1) + " s";
    if (s < 3600) return Math.floor(s / 60) + " min " + Math.round(s % 60) + " s";
    return Math.floor(s / 3600) + " h " + Math.round((s % 3600) / 60) + " min";
  }
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function link(plot) {
    timed.push(plot);
    plot.on("plotly_relayout", (change) => {
      if (linking) return;
      const from = change["xaxis.range[0]"], to = change["xaxis.range[1]"];
      const reset = change["xaxis.autorange"] || (change["xaxis.range"] !== undefined);
      if (from === undefined && !reset) return;
      linking = true;
      const all = timed.filter((other) => other !== plot).map((other) => Plotly.relayout(other,
        from === undefined ? { "xaxis.range": JSON.parse(other.dataset.range) } : { "xaxis.range": [from, to] }));
      Promise.all(all).finally(() => { linking = false; });
    });
  }

  for (const box of document.querySelectorAll("[data-figure]")) {
    const figure = page.figures[box.dataset.figure];
    if (box.dataset.timed) box.dataset.range = JSON.stringify(figure.layout.xaxis.range);
    if (box.dataset.gaps) { // -1 stands for "off", which is drawn as nothing
      const heat = figure.data[0], wide = Number(box.dataset.gaps), cells = atob(heat.z.bdata), rows = [];
      for (let i = 0; i < cells.length; i += wide) {
        rows.push(Array.from({ length: wide }, (_, j) => {
          const value = (cells.charCodeAt(i + j) << 24) >> 24;
          return value < 0 ? null : value;
        }));
      }
      heat.z = rows;
    }
    pending.push(Plotly.newPlot(box, figure.data, figure.layout, config).then(() => {
      if (box.dataset.timed) link(box);
    }));
  }

  // Swim-lanes. One filled path per profile: the browser draws 20,000 bars as a handful of elements.
  const lanesBox = document.getElementById("lanes");
  const strip = document.getElementById("lanes-axis");
  const tip = document.getElementById("lanes-tip");
  const HALF = 0.42;
  let shown = null; // the window on the screen, its arrays unpacked

  function path(count, left, right, top, bottom, keep) {
    const x = [], y = [];
    for (let i = 0; i < count; i++) {
      if (keep && !keep(i)) continue;
      const a = left(i), b = right(i), t = top(i), u = bottom(i);
      x.push(a, b, b, a, a, null);
      y.push(t, t, u, u, t, null);
    }
    return { x, y };
  }

  function filled(name, area, colour, more) {
    return Object.assign({
      type: "scatter", mode: "lines", fill: "toself", fillcolor: colour, line: { width: 0, color: colour, simplify: false }, // bars of less than a pixel, too
      x: area.x, y: area.y, name: plain(name), hoverinfo: "skip", connectgaps: false,
    }, more || {});
  }

  function opened(w) {
    if (w.opened) return w;
    for (const part of ["bars", "on", "moves"]) {
      for (const key of Object.keys(w[part])) if (w[part][key].bdata !== undefined) w[part][key] = unpacked(w[part][key]);
    }
    w.first = new Int32Array(w.gpus.length + 1).fill(w.bars.lane.length);
    for (let i = w.bars.lane.length - 1; i >= 0; i--) w.first[w.bars.lane[i]] = i;
    for (let l = w.gpus.length - 1; l >= 0; l--) w.first[l] = Math.min(w.first[l], w.first[l + 1]);
    w.opened = true;
    return w;
  }

  function tracesOf(w) {
    const { on, bars, moves } = w, look = page.lanes.look, thick = (lane) => (2 * HALF) / w.slots[lane];
    const top = (lane) => lane - HALF - 0.04, bottom = (lane) => lane + HALF + 0.04;
    const traces = [
      filled("GPU on (paid)", path(on.lane.length, (i) => on.on[i], (i) => on.off[i],
        (i) => top(on.lane[i]), (i) => bottom(on.lane[i])), look.paid),
      filled("starting up", path(on.lane.length, (i) => on.on[i], (i) => on.usable[i],
        (i) => top(on.lane[i]), (i) => bottom(on.lane[i])), look.starting,
      { fillpattern: { shape: "/", size: 5, solidity: 0.35, bgcolor: look.paid, fgcolor: look.hatch, fillmode: "replace" } }),
    ];
    const inset = (lane) => Math.min(0.5 / w.px, thick(lane) * 0.08);
    page.lanes.profiles.forEach((profile, k) => {
      const y = (i) => bars.lane[i] - HALF + bars.slot[i] * thick(bars.lane[i]);
      traces.push(filled(profile.name, path(bars.lane.length, (i) => bars.start[i], (i) => bars.end[i],
        (i) => y(i) + inset(bars.lane[i]), (i) => y(i) + bars.high[i] * thick(bars.lane[i]) - inset(bars.lane[i]),
        (i) => bars.profile[i] === k), profile.colour));
    });
    // Moves between a GPU and host memory are drawn first, and paler than migrations.
    for (const host of [1, 0]) {
      const x = [], y = [], ends = [], lanes = [], marks = [];
      for (let i = 0; i < moves.at.length; i++) {
        if (moves.host[i] !== host) continue;
        x.push(moves.from[i], moves.at[i], null);
        y.push(moves.source[i], moves.target[i], null);
        ends.push(moves.at[i]);
        lanes.push(moves.target[i]);
        marks.push(moves.target[i] > moves.source[i] ? "triangle-down" : "triangle-up");
      }
      if (!ends.length) continue;
      const many = ends.length > 150, crowd = ends.length > 600, name = host ? "to or from host memory" : "migration";
      const colour = host ? look.hatch : look.move, size = host || crowd ? 4 : many ? 5 : 8;
      traces.push({ type: "scatter", mode: "lines", x, y, line: { width: host || many ? 0.6 : 1, color: colour },
        opacity: crowd ? 0.12 : host || many ? 0.45 : 0.85, name, hoverinfo: "skip", showlegend: false });
      traces.push({ type: "scatter", mode: "markers", x: ends, y: lanes, hoverinfo: "skip", name,
        marker: { symbol: marks, size, color: colour, line: { width: host || crowd ? 0 : 1, color: "#fff" } } });
    }
    return traces;
  }

  function shapesOf(w) {
    const lines = [];
    for (const group of w.groups.slice(1)) {
      lines.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: group.first - 0.5, y1: group.first - 0.5,
        line: { width: 1, color: "#cfd8e0" }, layer: "below" });
    }
    return lines;
  }

  function labelsOf(w) {
    return w.groups.filter((group) => group.count * w.px >= 30).map((group) => ({
      xref: "paper", x: 1.004, xanchor: "left", y: group.first + group.count / 2 - 0.5, showarrow: false, textangle: 90,
      text: plain(group.type + (group.count * w.px >= 84 ? " " + group.node : "")), font: { size: 10.5 },
    }));
  }

  function showWindow(index) {
    const w = opened(page.lanes.windows[index]);
    shown = w;
    const look = page.lanes.look, count = w.gpus.length;
    const range = [w.start, w.end];
    const x = Object.assign({}, look.xaxis, { range });
    const base = { paper_bgcolor: "#fff", plot_bgcolor: "#fff", font: look.font };
    const layout = Object.assign({}, base, {
      height: count * w.px + 8, margin: { l: look.left, r: 42, t: 4, b: 4 }, dragmode: "zoom", showlegend: false,
      xaxis: Object.assign({}, x, { showticklabels: false, ticks: "" }),
      yaxis: { range: [count - 0.5, -0.5], tickmode: "array", tickvals: w.gpus.map((_, i) => i),
        ticktext: w.gpus.map(plain), tickfont: { size: Math.min(11, w.px - 2) },
        ticklabeloverflow: "allow", showgrid: false, zeroline: false },
      shapes: shapesOf(w), annotations: labelsOf(w),
    });
    const axis = Object.assign({}, base, {
      height: 42, margin: { l: look.left, r: 42, t: 4, b: 36 }, showlegend: false,
      xaxis: Object.assign({}, x, { fixedrange: true, showgrid: false }),
      yaxis: { visible: false, fixedrange: true, range: [0, 1] },
    });
    lanesBox.dataset.range = strip.dataset.range = JSON.stringify(range);
    for (const key of document.querySelectorAll("[data-window]")) {
      key.setAttribute("aria-pressed", String(Number(key.dataset.window) === index));
    }
    const far = [{ type: "scatter", x: range, y: [-9, -9], mode: "lines", hoverinfo: "skip" }];
    const still = { responsive: true, staticPlot: true, displayModeBar: false };
    lanesBox.parentElement.scrollTop = 0;
    return Promise.all([
      Plotly.react(lanesBox, tracesOf(w), layout, Object.assign({}, config, { displayModeBar: false })),
      Plotly.react(strip, far, axis, still),
    ]);
  }

  function barAt(w, time, y) {
    const lane = Math.round(y);
    if (lane < 0 || lane >= w.gpus.length) return null;
    const slot = Math.floor(((y - lane + HALF) / (2 * HALF)) * w.slots[lane]);
    let found = -1;
    for (let i = w.first[lane]; i < w.first[lane + 1]; i++) {
      const above = w.bars.slot[i] + w.bars.high[i];
      if (w.bars.slot[i] <= slot && slot < above && w.bars.start[i] <= time && time < w.bars.end[i]) { found = i; break; }
    }
    let on = -1;
    for (let i = 0; i < w.on.lane.length; i++) {
      if (w.on.lane[i] === lane && w.on.on[i] <= time && time < w.on.off[i]) { on = i; break; }
    }
    return { lane, bar: found, on };
  }

  function explain(event) {
    const full = lanesBox._fullLayout;
    if (!full || !shown) return;
    const edge = lanesBox.getBoundingClientRect();
    const time = full.xaxis.p2c(event.clientX - edge.left - full._size.l);
    const y = full.yaxis.p2c(event.clientY - edge.top - full._size.t);
    const at = barAt(shown, time, y);
    if (!at || (at.bar < 0 && at.on < 0)) { tip.hidden = true; return; }
    const group = shown.groups.find((g) => at.lane >= g.first && at.lane < g.first + g.count);
    const rows = [];
    if (at.bar >= 0) {
      const b = shown.bars, i = at.bar;
      rows.push(["strong", "Session " + b.session[i]], ["span", page.lanes.profiles[b.profile[i]].name],
        ["span", clock(b.start[i]) + " to " + clock(b.end[i]) + " (" + length(b.end[i] - b.start[i]) + ")"]);
    }
    if (at.on >= 0) {
      const o = shown.on, i = at.on, starting = time < o.usable[i];
      rows.push([at.bar >= 0 ? "span" : "strong", "GPU " + shown.gpus[at.lane] + ", " + group.type + ", node " + group.node],
        ["small", (starting ? "starting up until " + clock(o.usable[i]) : "on from " + clock(o.on[i]) + " to " + clock(o.off[i]))]);
    }
    tip.replaceChildren(...rows.map(([tag, text]) => {
      const row = document.createElement(tag);
      row.textContent = text;
      return row;
    }));
    tip.hidden = false;
    const wide = tip.offsetWidth, high = tip.offsetHeight;
    tip.style.left = Math.max(8, Math.min(event.clientX + 14, document.documentElement.clientWidth - wide - 8)) + "px";
    tip.style.top = (event.clientY + 18 + high > window.innerHeight ? event.clientY - high - 10 : event.clientY + 18) + "px";
  }

  // Panels: one per trace, of which one is seen.
  function showPanel(index) {
    for (const key of document.querySelectorAll("[data-choose]")) {
      key.setAttribute("aria-pressed", String(Number(key.dataset.choose) === index));
    }
    for (const panel of document.querySelectorAll("[data-panel]")) {
      panel.hidden = Number(panel.dataset.panel) !== index;
      if (!panel.hidden) for (const plot of panel.querySelectorAll(".js-plotly-plot")) Plotly.Plots.resize(plot);
    }
  }
  for (const key of document.querySelectorAll("[data-choose]")) {
    key.addEventListener("click", () => { showPanel(Number(key.dataset.choose)); });
  }

  if (lanesBox) pending.push(showWindow(0).then(() => {
    lanesBox.addEventListener("mousemove", explain);
    lanesBox.addEventListener("mouseleave", () => { tip.hidden = true; });
    lanesBox.on("plotly_relayout", (change) => {
      const from = change["xaxis.range[0]"], to = change["xaxis.range[1]"];
      if (from !== undefined) Plotly.relayout(strip, { "xaxis.range": [from, to] });
      else if (change["xaxis.range"]) Plotly.relayout(strip, { "xaxis.range": change["xaxis.range"] });
      else if (change["xaxis.autorange"]) Plotly.relayout(strip, { "xaxis.range": [shown.start, shown.end] });
    });
    if (lanesBox.dataset.timed) link(lanesBox);
    for (const key of document.querySelectorAll("[data-window]")) {
      key.addEventListener("click", () => { showWindow(Number(key.dataset.window)); });
    }
  }));

  Promise.all(pending).then(() => { showPanel(0); document.documentElement.dataset.ready = "yes"; });
})();
