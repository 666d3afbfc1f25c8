// The charts of the overview: how long runs took, and how many rows the tables had. Colours are those of the page.
(() => {
  "use strict";
  const data = window.smollData.overview;
  const refused = () => Promise.reject(new Error("A page of the portal fetches nothing."));
  const loader = { load: refused, sanitize: refused, http: refused, file: refused };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  const highest = Math.max(1, ...data.rows.map((row) => row.rows));
  const powers = [0, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9].filter((step) => step <= highest * 3);

  const specs = {
    runs: () => ({
      data: { values: data.runs },
      mark: { type: "bar", cornerRadiusEnd: 2 },
      encoding: {
        x: { field: "run", type: "ordinal", sort: null, title: "run", axis: { labelAngle: 0, labelOverlap: true } },
        y: { field: "seconds", type: "quantitative", title: null, axis: { tickCount: 4 } },
        color: {
          field: "status", type: "nominal", title: null,
          scale: { domain: ["ok", "refused", "failed", "interrupted", "killed"], range: ["chart-1", "warn", "bad", "muted", "muted"].map(colour) },
          legend: data.runs.every((run) => run.status === "ok") ? null : { orient: "top", values: [...new Set(data.runs.map((run) => run.status))] },
        },
        tooltip: [
          { field: "run", title: "Run" }, { field: "status", title: "Status" },
          { field: "seconds", title: "Seconds", format: ",.1f" }, { field: "started", title: "Started" }, { field: "release", title: "Release" },
        ],
      },
    }),
    rows: () => ({
      data: { values: data.rows },
      mark: { type: "line", point: true, strokeWidth: 2 },
      encoding: {
        x: { field: "release", type: "ordinal", sort: null, title: "release", axis: { labelAngle: 0, labelOverlap: true } },
        y: { field: "rows", type: "quantitative", title: null, scale: { type: "symlog" }, axis: { values: powers, labelExpr: "format(datum.value, '~s')" } },
        color: { field: "table", type: "nominal", title: null, legend: { orient: "bottom", columns: 2, labelLimit: 180 } },
        tooltip: [{ field: "table", title: "Table" }, { field: "release", title: "Release" }, { field: "rows", title: "Rows", format: ",d" }],
      },
    }),
  };

  const draw = () => {
    const config = {
      background: "transparent",
      font: getComputedStyle(document.body).fontFamily,
      view: { stroke: null },
      axis: { labelColor: colour("muted"), titleColor: colour("muted"), gridColor: colour("line"), domainColor: colour("line"), tickColor: colour("line"), labelFontSize: 11, titleFontWeight: "normal" },
      axisX: { grid: false },
      legend: { labelColor: colour("muted"), titleColor: colour("muted") },
      range: { category: [1, 2, 3, 4, 5, 6].map((n) => colour(`chart-${n}`)) },
    };
    for (const place of document.querySelectorAll("[data-history]")) {
      const spec = { ...specs[place.dataset.history](), width: "container", height: 180, autosize: { type: "fit-x", contains: "padding" }, config };
      window.vegaEmbed(place, spec, { ast: true, renderer: "svg", actions: false, loader });
    }
  };
  draw();
  document.addEventListener("smoll:theme", draw);
})();
