"use strict";
// Draws every figure from the JSON beside it, and gives text and grid the colours of the page, light or dark.
(() => {
  const matches = (query) => window.matchMedia(query).matches;
  const config = {
    responsive: true,
    displaylogo: false,
    showSendToCloud: false,
    // where nothing hovers, the bar would always cover the legend
    displayModeBar: matches("(hover: none)") ? false : "hover",
    modeBarButtons: [["toImage", "resetScale2d"]],
  };

  const theme = (layout) => {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const update = {
      "font.color": color("--ink"),
      "hoverlabel.bgcolor": color("--card"),
      "hoverlabel.font.color": color("--ink"),
      "modebar.bgcolor": color("--paper"),
      "modebar.color": color("--quiet"),
      "modebar.activecolor": color("--ink"),
      // a finger on a figure scrolls the page
      dragmode: matches("(pointer: coarse)") ? false : "zoom",
    };
    for (const key of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))) {
      update[`${key}.gridcolor`] = color("--line");
      update[`${key}.zerolinecolor`] = color("--line");
    }
    return update;
  };

  const plots = [...document.querySelectorAll(".plot")];
  const repaint = () => plots.forEach((plot) => Plotly.relayout(plot, theme(plot.layout)));
  const draw = (plot) => {
    const { data, layout } = JSON.parse(plot.nextElementSibling.textContent);
    return Plotly.newPlot(plot, data, layout, config);
  };
  Promise.all(plots.map(draw)).then(repaint);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
})();
