// Charts, tables and tabs of the dashboards of a portal. A classic script: pages are opened from files, too.
// What it finds: <div data-dashboard="slug">, and window.smollData["dashboard-slug"] (see smoll.dashboards.render).
"use strict";
(() => {
  // --- values: numbers that JavaScript's cannot hold exactly, dates and what is nested come as text

  const MOMENT = /^(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d):(\d\d)(?:\.(\d+))?)?/;

  // A date is one day wherever the reader sits, so it becomes midnight of the reader's own clock, and times of UTC likewise.
  const moment = (text) => {
    const found = MOMENT.exec(text);
    if (!found) return null;
    const [year, month, day, hour, minute, second] = found.slice(1, 7).map((part) => Number(part || 0));
    const date = new Date(2000, 0, 1);
    date.setFullYear(year, month - 1, day);
    date.setHours(hour, minute, second, Math.floor(Number("0." + (found[7] || 0)) * 1000));
    for (const name of ["toString", "toJSON"]) Object.defineProperty(date, name, { value: () => text });
    return date;
  };

  const json = (text) => {
    try {
      return JSON.parse(text);
    } catch {
      return text; // it was too long, and is cut
    }
  };

  const number = (value) => {
    const found = Number(value);
    return Number.isFinite(found) ? found : null;
  };

  const READERS = { number, date: moment, timestamp: moment, json };

  const objects = ({ columns, rows }) => {
    const readers = columns.map(({ kind }) => READERS[kind] || ((value) => value));
    return rows.map((row) => {
      const result = {};
      columns.forEach(({ name }, n) => {
        const value = row[n] === null ? null : readers[n](row[n]);
        Object.defineProperty(result, name, { value, enumerable: true, configurable: true, writable: true });
      });
      return result;
    });
  };

  // --- texts of values; smoll.dashboards.formats does the same in Python

  const NUMBER = /^(\+?)(,?)(?:\.(\d{1,2}))?([df%s]?)$/;
  const UNITS = ["n", "µ", "m", "", "k", "M", "G", "T", "P", "E", "Z", "Y"];
  const MONTHS = "January February March April May June July August September October November December".split(" ");
  const DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");

  const plain = (value, column) => {
    if (typeof value === "number" && column.scale !== null) return value.toFixed(column.scale);
    return String(value);
  };

  const short = (value, digits) => {
    if (value === 0) return "0";
    const exponent = Number(value.toExponential(digits - 1).split("e")[1]);
    const step = Math.max(-3, Math.min(8, Math.floor(exponent / 3)));
    const scaled = value / 10 ** (3 * step);
    return scaled.toFixed(Math.max(0, digits - 1 - (exponent - 3 * step))) + UNITS[step + 3];
  };

  const numeric = (text, [, sign, comma, digits, kind]) => {
    if (!/^-?[\d.]+(e[+-]?\d+)?$/i.test(text)) return text;
    let result;
    if (kind === "s") result = short(Number(text), Math.max(1, Number(digits || 3)));
    else {
      const [least, most] = kind === "d" ? [0, 0] : kind || digits ? [Number(digits || 6), Number(digits || 6)] : [0, 20];
      const options = { minimumFractionDigits: least, maximumFractionDigits: most, useGrouping: comma === "," };
      if (kind === "%") options.style = "percent";
      result = new Intl.NumberFormat("en-US", options).format(text);
    }
    if (/^-[0.,%]*$/.test(result)) result = result.slice(1);
    return sign && !result.startsWith("-") ? "+" + result : result;
  };

  const dated = (text, format) => {
    const at = moment(text);
    if (!at) return text;
    const two = (value) => String(value).padStart(2, "0");
    const [month, day, hour] = [MONTHS[at.getMonth()], DAYS[at.getDay()], at.getHours()];
    const year = at.getFullYear();
    const nth = Math.round((Date.UTC(year, at.getMonth(), at.getDate()) - Date.UTC(year, 0, 1)) / 86400000) + 1;
    const parts = {
      "%": "%", a: day.slice(0, 3), A: day, b: month.slice(0, 3), B: month, d: two(at.getDate()),
      e: String(at.getDate()).padStart(2), H: two(hour), I: two(hour % 12 || 12), j: String(nth).padStart(3, "0"),
      m: two(at.getMonth() + 1), M: two(at.getMinutes()), p: hour < 12 ? "AM" : "PM", S: two(at.getSeconds()),
      y: two(year % 100), Y: String(year).padStart(4, "0"),
    };
    return format.replace(/%(.)/g, (all, letter) => parts[letter] ?? all);
  };

  const shown = (value, column, format) => {
    const text = plain(value, column);
    if (!format) return text;
    const spec = NUMBER.exec(format);
    if (spec) return column.kind === "number" ? numeric(text, spec) : text;
    return column.kind === "date" || column.kind === "timestamp" ? dated(text, format) : text;
  };

  // --- elements

  const element = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  };

  const notice = (text) => element("p", { class: "notice", role: "note" }, text);

  // --- charts

  const refuse = () => Promise.reject(new Error("a page of the portal fetches nothing"));
  const loader = {
    load: refuse,
    http: refuse,
    file: refuse,
    // Links may lead anywhere, but none is a script; everything else that has an address would be fetched.
    sanitize: (uri, options) =>
      options && options.context === "href" && /^(https?:|[^:]*$)/i.test(String(uri).trim())
        ? Promise.resolve({ href: String(uri).trim(), target: "_blank", rel: "noopener noreferrer" })
        : refuse(),
  };
  const SERIES = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0"];

  const config = () => {
    const style = getComputedStyle(document.documentElement);
    const color = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
    const [text, muted, line] = [color("--text", "#1f2328"), color("--muted", "#59636e"), color("--line", "#d8dee4")];
    const accent = color("--chart-1", color("--accent", SERIES[0]));
    const series = SERIES.map((each, n) => color("--chart-" + (n + 1), n ? each : accent));
    const guide = { labelColor: muted, titleColor: muted, titleFontWeight: 500, labelFontSize: 11, titleFontSize: 11 };
    return {
      background: "transparent",
      font: getComputedStyle(document.body).fontFamily,
      padding: 4,
      view: { stroke: null },
      title: { color: text, subtitleColor: muted, anchor: "start", frame: "group", fontSize: 14, fontWeight: 600, offset: 12 },
      axis: { ...guide, gridColor: line, domainColor: line, tickColor: line },
      axisX: { grid: false },
      axisY: { domain: false, ticks: false },
      legend: { ...guide, symbolType: "circle" },
      header: { ...guide },
      mark: { color: accent },
      text: { color: text },
      rule: { color: muted },
      line: { strokeWidth: 2 }, // and no `cornerRadiusEnd` of bars: those of binned data would have no width
      range: { category: series, ramp: [line, accent], heatmap: [line, accent] },
    };
  };

  // What a reader has chosen in a chart: the signals and stores of its parameters, wherever in it they are.
  const namesOfParams = (spec) =>
    Object.entries(spec).flatMap(([key, value]) => [
      ...(key === "params" && Array.isArray(value) ? value.map((param) => param.name) : []),
      ...(value && typeof value === "object" && key !== "datasets" ? namesOfParams(value) : []),
    ]);

  const chosen = (chart) => {
    const names = namesOfParams(chart.spec);
    const isOfOne = (name) => names.some((param) => name === param || name.startsWith(`${param}_`));
    return names.length ? chart.drawn.view.getState({ signals: isOfOne, data: isOfOne }) : null;
  };

  const charts = [];

  const draw = async (chart) => {
    const { figure, spec, data } = chart;
    const view = figure.querySelector(".chart-view");
    const turn = (chart.turn = (chart.turn || 0) + 1);
    const choice = chart.drawn && chosen(chart);
    if (chart.drawn) chart.drawn.finalize();
    chart.drawn = null;
    view.replaceChildren();
    view.style.width = "100%"; // Vega-Embed's own style would make it as narrow as its content
    try {
      const options = {
        ast: true,
        renderer: "svg",
        loader,
        mode: "vega-lite",
        config: config(),
        downloadFileName: chart.name,
        actions: { export: { svg: true, png: true }, source: false, compiled: false, editor: false },
      };
      const drawn = await window.vegaEmbed(view, { ...spec, datasets: { ...spec.datasets, ...data } }, options);
      if (choice) drawn.view.setState(choice);
      view.querySelector("summary")?.setAttribute("aria-label", "Save this chart");
      if (chart.turn === turn) chart.drawn = drawn;
      else drawn.finalize();
      figure.dataset.state = "drawn";
    } catch (error) {
      figure.dataset.state = "failed";
      const said = window.vegaEmbed ? (error && error.message) || error : "the script that draws charts is not there";
      view.replaceChildren(notice(`This chart cannot be drawn: ${said}. Its data are below.`));
    }
  };

  const drawAll = async () => {
    for (const chart of charts) {
      await draw(chart);
      await new Promise((next) => setTimeout(next)); // let the page answer in between
    }
  };

  const addCharts = (root, data) => {
    const known = Object.create(null);
    for (const figure of root.querySelectorAll("figure[data-chart]")) {
      const { spec, queries } = data.charts[figure.dataset.chart];
      const own = Object.create(null);
      for (const name of queries) own[name] = known[name] ??= objects(data.queries[name]);
      charts.push({ figure, spec, data: own, name: queries[0] || "chart" });
    }
  };

  const followTheme = () => {
    let before = JSON.stringify(config());
    const look = () => {
      const now = JSON.stringify(config());
      if (now !== before) drawAll();
      before = now;
    };
    new MutationObserver(look).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme", "class"] });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", look);
  };

  // --- tables

  const LONGEST = 300;
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  const compared = (a, b, kind) => {
    if (kind === "number") {
      const [x, y] = [Number(a), Number(b)];
      if (x !== y) return Number.isNaN(x) ? 1 : Number.isNaN(y) ? -1 : x - y;
      const whole = /^-?\d+$/;
      if (a !== b && whole.test(a) && whole.test(b)) return BigInt(a) < BigInt(b) ? -1 : 1;
      return 0;
    }
    if (kind === "date" || kind === "timestamp" || kind === "boolean") return a < b ? -1 : a > b ? 1 : 0;
    return collator.compare(a, b);
  };

  // A cell that begins like a formula is one to a spreadsheet, whoever wrote it into the data.
  const field = (value, column) => {
    if (value === null) return "";
    let text = plain(value, column);
    if (column.kind !== "number" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
    return text === "" || /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  };

  const download = (name, lines) => {
    const link = element("a", { download: name });
    link.href = URL.createObjectURL(new Blob(["\ufeff", lines.join("\r\n"), "\r\n"], { type: "text/csv;charset=utf-8" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  const addTable = (box, table, query) => {
    const { columns, rows } = query;
    const state = { at: null, down: false, search: "", page: 0 };
    const body = box.querySelector("tbody");
    const foot = box.querySelector(".table-foot");
    const heads = [...box.querySelectorAll("thead th")];
    let found = rows;
    let texts = null;

    const cell = (row, { at, format }) => {
      const [value, column] = [row[at], columns[at]];
      if (value === null) {
        return element("td", { class: "null" }, element("span", { "aria-hidden": "true" }, "–"), hidden("no value"));
      }
      const text = shown(value, column, format);
      const made = element("td", { dir: "auto" }, text.length > LONGEST ? text.slice(0, LONGEST) + "…" : text);
      if (column.kind === "number") made.className = "number";
      return made;
    };
    const hidden = (text) => element("span", { class: "visually-hidden" }, text);

    const show = () => {
      const pages = Math.max(1, Math.ceil(found.length / table.rows));
      state.page = Math.min(state.page, pages - 1);
      const first = state.page * table.rows;
      const some = found.slice(first, first + table.rows);
      body.replaceChildren(...some.map((row) => element("tr", {}, ...table.columns.map((column) => cell(row, column)))));
      if (!some.length) {
        body.append(element("tr", {}, element("td", { colspan: table.columns.length || 1, class: "empty" }, "No rows.")));
      }
      footer(first, some.length, pages);
    };

    const of = document.createElement("span");
    of.setAttribute("role", "status");
    const step = (by) => () => {
      state.page += by;
      show();
    };
    const back = element("button", { type: "button", onclick: step(-1) }, "Previous");
    const on = element("button", { type: "button", onclick: step(1) }, "Next");
    const footer = (first, count, pages) => {
      const all = found.length.toLocaleString("en-US");
      const range = `${(first + 1).toLocaleString("en-US")} to ${(first + count).toLocaleString("en-US")} of ${all} rows`;
      of.textContent = found.length === 0 ? "No rows" : pages > 1 ? range : found.length === 1 ? "1 row" : `${all} rows`;
      back.disabled = state.page === 0;
      on.disabled = state.page >= pages - 1;
      back.hidden = on.hidden = rows.length <= table.rows;
    };

    const find = () => {
      found = rows;
      const words = state.search.toLowerCase().trim();
      if (words) {
        texts ??= rows.map((row) =>
          table.columns
            .map(({ at, format }) => (row[at] === null ? "" : shown(row[at], columns[at], format)))
            .join("\n")
            .toLowerCase(),
        );
        found = rows.filter((_, n) => texts[n].includes(words));
      }
      if (state.at !== null) {
        const [{ at }, way] = [table.columns[state.at], state.down ? -1 : 1];
        found = [...found].sort((a, b) => {
          if (a[at] === null || b[at] === null) return (a[at] === null) - (b[at] === null); // at the end, either way
          return way * compared(a[at], b[at], columns[at].kind);
        });
      }
      state.page = 0;
      show();
    };

    heads.forEach((head, n) => {
      const sort = () => {
        state.down = state.at === n && !state.down;
        state.at = n;
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
        find();
      };
      if (rows.length > 1) head.replaceChildren(element("button", { type: "button", onclick: sort }, ...head.childNodes));
    });

    const save = () => {
      const which = table.all ? columns.map((_, n) => n) : table.columns.map(({ at }) => at);
      const text = { kind: "text", scale: null };
      const head = which.map((n) => field(columns[n].name, text)).join(",");
      download(table.query + ".csv", [head, ...found.map((row) => which.map((n) => field(row[n], columns[n])).join(","))]);
    };
    const tools = element("div", { class: "table-tools" });
    if (rows.length > table.rows) {
      const search = element("input", { type: "search", placeholder: "Search", "aria-label": `Search in ${table.query}` });
      search.addEventListener("input", () => {
        state.search = search.value;
        find();
      });
      tools.append(search);
    }
    if (rows.length) tools.append(element("button", { type: "button", onclick: save }, "Download CSV"));
    box.prepend(tools);
    foot.replaceChildren(of, " ", back, on);
    footer(0, Math.min(rows.length, table.rows), Math.max(1, Math.ceil(rows.length / table.rows)));
  };

  const addTables = (root, data) => {
    for (const box of root.querySelectorAll("[data-table]")) {
      const table = data.tables[box.dataset.table];
      const add = () => addTable(box, table, data.queries[table.query]);
      const details = box.closest("details");
      if (details) details.addEventListener("toggle", add, { once: true });
      else add();
    }
  };

  // --- tabs. What is not open keeps its width, so that its charts are drawn, and can be printed.

  let tabs = 0;

  const addTabs = (box) => {
    const panels = [...box.children].filter((child) => child.classList.contains("tab"));
    const titles = panels.map((panel) => panel.querySelector(".tab-title"));
    const list = element("div", { class: "tab-list", role: "tablist" });
    const buttons = panels.map((panel) => {
      const id = `tab-${++tabs}`;
      const button = element("button", { type: "button", role: "tab", id, "aria-controls": `${id}-panel` });
      button.append(panel.dataset.title);
      for (const [name, value] of Object.entries({ id: `${id}-panel`, role: "tabpanel", "aria-labelledby": id, tabindex: "0" })) {
        panel.setAttribute(name, value);
      }
      button.addEventListener("click", () => open(panel));
      list.append(button);
      return button;
    });
    const closed = { position: "absolute", visibility: "hidden", width: "100%", height: "0", overflow: "hidden", boxSizing: "border-box" };
    const open = (chosen) => {
      panels.forEach((panel, n) => {
        const is = panel === chosen;
        buttons[n].setAttribute("aria-selected", is);
        buttons[n].tabIndex = is ? 0 : -1;
        for (const name of Object.keys(closed)) panel.style[name] = is ? "" : closed[name];
        titles[n].hidden = true;
      });
    };
    list.addEventListener("keydown", (event) => {
      const now = buttons.indexOf(document.activeElement);
      const way = getComputedStyle(list).direction === "rtl" ? -1 : 1;
      const to = { ArrowRight: now + way, ArrowLeft: now - way, Home: 0, End: buttons.length - 1 }[event.key];
      if (now < 0 || to === undefined) return;
      event.preventDefault();
      const next = (to + buttons.length) % buttons.length;
      buttons[next].focus();
      open(panels[next]);
    });
    box.style.position = "relative";
    box.prepend(list);
    open(panels[0]);
    let chosen = null;
    window.addEventListener("beforeprint", () => {
      chosen = panels.find((panel) => !panel.style.visibility);
      for (const panel of panels) {
        for (const name of Object.keys(closed)) panel.style[name] = "";
      }
      for (const title of titles) title.hidden = false;
    });
    window.addEventListener("afterprint", () => open(chosen || panels[0]));
  };

  // Paper is light: what was drawn for a dark page is turned round.
  const printLight = () => {
    const isDark = () => {
      const found = /(\d+)\D+(\d+)\D+(\d+)/.exec(getComputedStyle(document.documentElement).color) || [0, 0, 0, 0];
      return Number(found[1]) + Number(found[2]) + Number(found[3]) > 382;
    };
    const turn = (filter) => charts.forEach(({ figure }) => (figure.querySelector(".chart-view").style.filter = filter));
    window.addEventListener("beforeprint", () => isDark() && turn("invert(1) hue-rotate(180deg)"));
    window.addEventListener("afterprint", () => turn(""));
  };

  const start = () => {
    for (const root of document.querySelectorAll("[data-dashboard]")) {
      root.querySelectorAll(".tabs").forEach(addTabs);
      const data = (window.smollData || {})["dashboard-" + root.dataset.dashboard];
      if (data) {
        addTables(root, data);
        addCharts(root, data);
      } else root.prepend(notice("The data of this page are not there: charts cannot be drawn."));
    }
    drawAll();
    followTheme();
    printLight();
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
