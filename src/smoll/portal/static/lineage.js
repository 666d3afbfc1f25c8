// The lineage of the project as a graph that one can walk through. It reads window.smollData.lineage (data/lineage.js,
// written by smoll.lineage.to_json) and fills every <div class="lineage">: one with data-node shows the neighbourhood of
// that table, one without is the whole page and keeps what it shows in the address. Data gets into the page as text only.
(() => {
  "use strict";

  const NARROWEST = 200, WIDEST = 272, HEAD = 64, ROW = 26, PAD = 8, GAP_X = 60, GAP_Y = 18, MOST_COLUMNS = 30, MARGIN = 24;
  const KINDS = {
    source: "Source", model: "Model", seed: "Seed", snapshot: "Snapshot", table: "Released table",
    dashboard: "Dashboard", other: "Exposure",
  };
  const STATES = { pass: "checks passed", warn: "a check warns", fail: "a check failed" };
  // 16 x 16, drawn with strokes: a cylinder, a cube, a leaf, a clock, a table, bars, an arrow that leaves.
  const ICONS = {
    source: "M2.5 4c0-1.1 2.5-2 5.5-2s5.5.9 5.5 2-2.5 2-5.5 2-5.5-.9-5.5-2zv8c0 1.1 2.5 2 5.5 2s5.5-.9 5.5-2V4M2.5 8c0 1.1 2.5 2 5.5 2s5.5-.9 5.5-2",
    model: "M8 1.8 13.5 4.9v6.2L8 14.2 2.5 11.1V4.9zM2.5 4.9 8 8l5.5-3.1M8 8v6.2",
    seed: "M8 14V8.5M8 8.5C8 5 5.5 3 2.5 3c0 3.5 2 5.5 5.5 5.5zM8 10.5c0-3 2-5 5.5-5 0 3-2 5-5.5 5z",
    snapshot: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 4.8V8l2.3 1.6",
    table: "M2.5 3h11v10h-11zM2.5 6.3h11M2.5 9.6h11M6.5 6.3V13",
    dashboard: "M2.5 13.5h11M4.5 11V7.5M8 11V3M11.5 11V5.5",
    other: "M6.5 3H3v10h10V9.5M9 2.5h4.5V7M13.5 2.5l-6 6",
    columns: "M4 6l4 4 4-4",
    focus: "M8 5.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5zM8 1.5v2M8 12.5v2M1.5 8h2M12.5 8h2",
  };
  const SVG = "http://www.w3.org/2000/svg";
  const numbers = new Intl.NumberFormat("en");
  const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

  // --- small helpers for the page -----------------------------------------------------------------------------------

  function make(tag, about = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(about)) {
      if (name === "on") for (const [event, run] of Object.entries(value)) element.addEventListener(event, run);
      else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  function drawing(tag, about) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(about)) element.setAttribute(name, value);
    return element;
  }

  function icon(name) {
    const svg = drawing("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true", class: "ln-icon" });
    svg.append(drawing("path", { d: ICONS[name] }));
    return svg;
  }

  const hidden = (text) => make("span", { class: "ln-hidden" }, text);
  const rowsOf = (count) => `${count < 1e6 ? numbers.format(count) : compact.format(count)} row${count === 1 ? "" : "s"}`;
  const plural = (count, word) => `${numbers.format(count)} ${word}${count === 1 ? "" : "s"}`;
  const average = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  // --- the graph ----------------------------------------------------------------------------------------------------

  // The data with each node's parents and children, and the columns below each column.
  function read(data) {
    const nodes = data.nodes.map((node, index) => ({
      rows: null, state: "", schema: "", link: null, note: "", columns: [], types: [], above: [], pii: [], released: false,
      ...node, index, parents: [], children: [], below: null,
    }));
    for (let i = 0; i < data.edges.length; i += 2) {
      nodes[data.edges[i]].children.push(data.edges[i + 1]);
      nodes[data.edges[i + 1]].parents.push(data.edges[i]);
    }
    for (const node of nodes) node.below = node.columns.map(() => []);
    for (const node of nodes) {
      node.above.forEach((pairs, column) => {
        for (let i = 0; i < pairs.length; i += 2) nodes[pairs[i]].below[pairs[i + 1]].push(node.index, column);
      });
    }
    const schemas = new Set(nodes.filter((node) => node.kind !== "source" && node.schema).map((node) => node.schema));
    const pen = document.createElement("canvas").getContext("2d");
    const measure = (text, font) => {
      pen.font = `${font} system-ui, sans-serif`;
      return pen.measureText(text).width;
    };
    for (const node of nodes) {
      const [name, rows] = [measure(node.name, "600 14px") + 52, node.rows === null ? 0 : measure(rowsOf(node.rows), "12px") + 144];
      node.width = Math.round(Math.min(WIDEST, Math.max(NARROWEST, name, rows)));
    }
    return {
      nodes,
      byKey: new Map(nodes.map((node) => [node.key, node])),
      hasSchemas: schemas.size > 1,
    };
  }

  const kindOf = (node) => (node.released ? "table" : node.kind in KINDS ? node.kind : "other");
  const kindName = (node) => (kindOf(node) === "other" ? node.kind : KINDS[kindOf(node)]);
  const isReader = (node) => ["dashboard", "other"].includes(kindOf(node));

  // The nodes at most `steps` away in one direction, with how far each is.
  function reach(graph, start, steps, direction) {
    const distance = new Map([[start, 0]]);
    let edge = [start];
    for (let step = 1; step <= steps && edge.length; step += 1) {
      const next = [];
      for (const index of edge) {
        for (const other of graph.nodes[index][direction]) {
          if (!distance.has(other)) {
            distance.set(other, step);
            next.push(other);
          }
        }
      }
      edge = next;
    }
    distance.delete(start);
    return distance;
  }

  // All columns that a column comes from and goes into: "node:column" of each, and the pairs between them.
  function trace(graph, node, column, directions = ["above", "below"]) {
    const found = { columns: new Map([[node, new Set([column])]]), links: [] };
    for (const direction of directions) {
      const seen = new Set([`${node}:${column}`]);
      const waiting = [[node, column]];
      while (waiting.length) {
        const [at, of] = waiting.pop();
        const pairs = graph.nodes[at][direction][of] || [];
        for (let i = 0; i < pairs.length; i += 2) {
          const [to, toColumn] = [pairs[i], pairs[i + 1]];
          found.links.push(direction === "above" ? [to, toColumn, at, of] : [at, of, to, toColumn]);
          if (!seen.has(`${to}:${toColumn}`)) {
            seen.add(`${to}:${toColumn}`);
            waiting.push([to, toColumn]);
            if (!found.columns.has(to)) found.columns.set(to, new Set());
            found.columns.get(to).add(toColumn);
          }
        }
      }
    }
    return found;
  }

  // --- the layout ---------------------------------------------------------------------------------------------------

  // Places the visible nodes: a rank for each from left to right (the longest way to it), an order within each rank by
  // barycentres, then heights near those of the neighbours. An edge over several ranks keeps a place in each for itself.
  function layout(graph, visible, heightOf) {
    const shown = [...visible].sort((a, b) => a - b); // parents come first in the data
    const parents = new Map(shown.map((index) => [index, graph.nodes[index].parents.filter((each) => visible.has(each))]));
    const children = new Map(shown.map((index) => [index, graph.nodes[index].children.filter((each) => visible.has(each))]));
    const rank = new Map();
    for (const index of shown) rank.set(index, Math.max(-1, ...parents.get(index).map((each) => rank.get(each) ?? -1)) + 1);
    for (const index of [...shown].reverse()) { // a seed stands beside what reads it, not at the far left
      if (!parents.get(index).length && children.get(index).length && graph.nodes[index].kind !== "source") {
        rank.set(index, Math.min(...children.get(index).map((each) => rank.get(each))) - 1);
      }
    }
    const readers = shown.filter((index) => isReader(graph.nodes[index]));
    const last = Math.max(0, ...readers.map((index) => rank.get(index)));
    for (const index of readers) rank.set(index, last);

    const cellOf = (about) => ({ index: -1, height: 6, anchor: 3, left: [], right: [], y: 0, ...about });
    const cells = new Map(shown.map((index) => [
      index, cellOf({ index, rank: rank.get(index), height: heightOf(index), anchor: HEAD / 2 }),
    ]));
    const ranks = Array.from({ length: Math.max(0, ...rank.values()) + 1 }, () => []);
    for (const cell of cells.values()) ranks[cell.rank].push(cell);
    const ways = [];
    for (const index of shown) {
      for (const child of children.get(index)) {
        const way = { from: index, to: child, through: [] };
        let before = cells.get(index);
        for (let at = before.rank + 1; at < rank.get(child); at += 1) {
          const cell = cellOf({ rank: at, left: [before] });
          before.right.push(cell);
          ranks[at].push(cell);
          way.through.push(cell);
          before = cell;
        }
        before.right.push(cells.get(child));
        cells.get(child).left.push(before);
        ways.push(way);
      }
    }
    order(ranks);
    place(ranks);
    const positions = new Map();
    const top = Math.min(0, ...ranks.flat().map((cell) => cell.y - cell.anchor));
    let [x, bottom] = [MARGIN, 0];
    for (const cells of ranks) { // as wide as the longest name in it
      const width = Math.max(NARROWEST, ...cells.filter((cell) => cell.index >= 0).map((cell) => graph.nodes[cell.index].width));
      for (const cell of cells) {
        cell.y -= top - MARGIN;
        Object.assign(cell, { x, width });
        bottom = Math.max(bottom, cell.y - cell.anchor + cell.height);
        if (cell.index >= 0) positions.set(cell.index, { x, width, y: cell.y - cell.anchor, height: cell.height, rank: cell.rank });
      }
      x += width + GAP_X;
    }
    return {
      positions,
      ways: ways.map((way) => ({ from: way.from, to: way.to, through: way.through.map((cell) => [cell.x, cell.y, cell.width]) })),
      width: x - GAP_X + MARGIN,
      height: bottom + MARGIN,
    };
  }

  function order(ranks) {
    const number = () => ranks.forEach((cells) => cells.forEach((cell, position) => { cell.position = position; }));
    const sweep = (list, side) => {
      for (const cells of list) {
        for (const cell of cells) {
          cell.wish = cell[side].length ? average(cell[side].map((each) => each.position)) : cell.position;
        }
        cells.sort((a, b) => a.wish - b.wish);
        cells.forEach((cell, position) => { cell.position = position; });
      }
    };
    number();
    let best = null, fewest = Infinity;
    for (let round = 0; round < 8 && fewest > 0; round += 1) {
      sweep(ranks, "left");
      sweep([...ranks].reverse(), "right");
      const now = crossings(ranks);
      if (now < fewest) [best, fewest] = [ranks.map((cells) => [...cells]), now];
    }
    if (best) best.forEach((cells, at) => { ranks[at] = cells; });
    number();
  }

  function crossings(ranks) {
    let count = 0;
    for (const cells of ranks) {
      const ends = [];
      for (const cell of cells) {
        const here = cell.right.map((each) => each.position).sort((a, b) => a - b);
        for (const end of here) count += ends.length - firstAbove(ends, end);
        for (const end of here) ends.splice(firstAbove(ends, end), 0, end);
      }
    }
    return count;
  }

  function firstAbove(sorted, value) {
    let [low, high] = [0, sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] <= value) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  function place(ranks) {
    for (const cells of ranks) settle(cells, () => 0);
    const near = (side) => (cell) => (cell[side].length ? average(cell[side].map((each) => each.y)) : cell.y);
    const both = (cell) => {
      const around = [...cell.left, ...cell.right];
      return around.length ? average(around.map((each) => each.y)) : cell.y;
    };
    for (let round = 0; round < 6; round += 1) {
      for (const cells of ranks) settle(cells, near("left"));
      for (const cells of [...ranks].reverse()) settle(cells, near("right"));
    }
    for (let round = 0; round < 2; round += 1) for (const cells of ranks) settle(cells, both);
  }

  // The heights closest to those wished for that keep the order and the gaps: least squares, by pooling neighbours.
  function settle(cells, wish) {
    const offsets = [];
    let offset = 0;
    cells.forEach((cell, at) => {
      if (at) {
        const above = cells[at - 1];
        const gap = cell.index < 0 || above.index < 0 ? GAP_Y * 0.7 : GAP_Y;
        offset += above.height - above.anchor + gap + cell.anchor;
      }
      offsets.push(offset);
    });
    const pools = [];
    cells.forEach((cell, at) => {
      const weight = cell.index < 0 ? 3 : 1; // a long edge is straight before a card is in the middle
      pools.push({ count: 1, weight, sum: weight * (wish(cell) - offsets[at]) });
      while (pools.length > 1) {
        const [a, b] = pools.slice(-2);
        if (a.sum / a.weight <= b.sum / b.weight) break;
        pools.splice(-2, 2, { count: a.count + b.count, weight: a.weight + b.weight, sum: a.sum + b.sum });
      }
    });
    let at = 0;
    for (const pool of pools) {
      for (let i = 0; i < pool.count; i += 1, at += 1) cells[at].y = pool.sum / pool.weight + offsets[at];
    }
  }

  // --- one view -----------------------------------------------------------------------------------------------------

  function view(root, graph, whole) {
    const prefix = document.body.dataset.root || "";
    const state = { node: -1, up: 1, down: 1, all: false, expanded: new Set(), more: new Set(), long: new Set() };
    let missing = "", scale = 1, drawn = null, visible = new Set(), pinned = null, cards = new Map(), fitted = true;

    // The frame: toolbar, graph, text.
    const status = make("p", { class: "ln-status", role: "status" });
    const svg = drawing("svg", { class: "ln-edges", "aria-hidden": "true" });
    const world = make("div", { class: "ln-world" }, svg);
    const sizer = make("div", { class: "ln-sizer" }, world);
    const canvas = make("div", { class: "ln-canvas", role: "group", "aria-label": "Lineage as a graph" }, sizer);
    const text = make("div", { class: "ln-text" });
    const button = (label, title, run) => make("button", {
      type: "button", title, "aria-label": /[a-z]/i.test(label) ? null : title, on: { click: run },
    }, label);
    const buttons = {
      upLess: button("−", "One step less upstream", () => step("up", -1)),
      upMore: button("+", "One step more upstream", () => step("up", 1)),
      downLess: button("−", "One step less downstream", () => step("down", -1)),
      downMore: button("+", "One step more downstream", () => step("down", 1)),
      all: button("All", "Show everything", () => { state.all = !state.all; state.more.clear(); show({ fit: true }); }),
      columns: button("Columns", "Show the columns of all cards", () => {
        const open = [...visible].some((index) => graph.nodes[index].columns.length && !state.expanded.has(index));
        for (const index of visible) if (graph.nodes[index].columns.length) state.expanded[open ? "add" : "delete"](index);
        show({ fit: true });
      }),
    };
    const counts = { up: make("output", {}), down: make("output", {}) };
    const group = (label, ...children) => make("div", { class: "ln-group", role: "group", "aria-label": label }, ...children);
    const label = (text) => make("span", { class: "ln-label", "aria-hidden": "true" }, text, make("span", { class: "ln-long" }, "stream"));
    const toolbar = make("div", { class: "ln-toolbar" },
      whole ? picker() : null,
      group("Upstream", label("Up"), buttons.upLess, counts.up, buttons.upMore),
      group("Downstream", label("Down"), buttons.downLess, counts.down, buttons.downMore),
      group("What is shown", buttons.all, buttons.columns),
      group("Zoom", button("−", "Zoom out", () => zoom(scale / 1.25)), button("+", "Zoom in", () => zoom(scale * 1.25)),
        button("Fit", "Fit everything into view", () => fit(0.1))),
      whole ? null : make("a", { class: "ln-open", href: "#" }, "Open in full"),
    );
    root.replaceChildren(toolbar, status, canvas, whole ? legend() : "", whole ? text : "");

    function picker() {
      const id = "ln-pick";
      const list = make("ul", { id: `${id}-list`, role: "listbox", "aria-label": "Tables and dashboards", hidden: true });
      const input = make("input", {
        id, type: "search", role: "combobox", autocomplete: "off", spellcheck: "false", placeholder: "Find a table or dashboard",
        "aria-label": "Find a table or dashboard", "aria-expanded": "false", "aria-controls": list.id, "aria-autocomplete": "list",
      });
      let found = [], at = -1;
      const close = () => { list.hidden = true; input.setAttribute("aria-expanded", "false"); input.removeAttribute("aria-activedescendant"); };
      const choose = (node) => { close(); input.value = ""; go(node.index); };
      const mark = (to) => {
        at = found.length ? (to + found.length) % found.length : -1;
        [...list.children].forEach((item, index) => {
          item.setAttribute("aria-selected", String(index === at));
          if (index === at) item.scrollIntoView({ block: "nearest" });
        });
        if (at >= 0) input.setAttribute("aria-activedescendant", `${id}-${at}`);
      };
      const search = () => {
        const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
        found = graph.nodes
          .filter((node) => words.every((word) => `${node.key} ${node.name} ${kindName(node)}`.toLowerCase().includes(word)))
          .sort((a, b) => isReader(a) - isReader(b) || b.released - a.released || a.name.localeCompare(b.name))
          .slice(0, 60);
        list.replaceChildren(...found.map((node, index) => make("li", {
          id: `${id}-${index}`, role: "option", "aria-selected": "false", "data-kind": kindOf(node),
          on: { mousedown: (event) => { event.preventDefault(); choose(node); } },
        }, icon(kindOf(node)), make("bdi", {}, node.name), make("span", { class: "ln-muted" }, kindName(node)))));
        const nothing = { class: "ln-none", role: "option", "aria-disabled": "true", "aria-selected": "false" };
        if (!found.length) list.replaceChildren(make("li", nothing, "Nothing of that name."));
        list.hidden = false;
        input.setAttribute("aria-expanded", "true");
        mark(words.length ? 0 : -1);
      };
      input.addEventListener("input", search);
      input.addEventListener("focus", search);
      input.addEventListener("blur", close);
      input.addEventListener("keydown", (event) => {
        if (event.key === "ArrowDown" || event.key === "ArrowUp") {
          event.preventDefault();
          if (list.hidden) search();
          mark(at + (event.key === "ArrowDown" ? 1 : -1));
        } else if (event.key === "Enter" && found[at]) {
          event.preventDefault();
          choose(found[at]);
        } else if (event.key === "Escape") close();
      });
      return make("div", { class: "ln-picker" }, input, list);
    }

    function legend() {
      const kinds = [...new Set(graph.nodes.map(kindOf))].sort((a, b) => Object.keys(KINDS).indexOf(a) - Object.keys(KINDS).indexOf(b));
      return make("ul", { class: "ln-legend", "aria-label": "Legend" },
        ...kinds.map((kind) => make("li", { "data-kind": kind }, icon(kind), KINDS[kind])));
    }

    // --- what is shown

    function go(node) {
      const isInside = canvas.contains(document.activeElement);
      Object.assign(state, { node, all: false, up: 1, down: 1 });
      [pinned, missing] = [null, ""];
      state.more.clear();
      state.expanded.clear();
      remember("pushState");
      show({ fit: true });
      if (isInside) cards.get(node).querySelector(".ln-title").focus({ preventScroll: true });
    }

    function step(direction, by) {
      state.all = false;
      state[direction] = Math.max(0, state[direction] + by);
      state.more.clear();
      show({ fit: true });
    }

    function pin(node, column) {
      const same = pinned && pinned.node === node && pinned.column === column;
      pinned = same ? null : { node, column };
      show({ keep: node, focus: [node, column] });
    }

    // What is shown, in the address: so that it can be linked, and Back goes back.
    function remember(how = "replaceState") {
      if (!whole) return;
      const parts = new URLSearchParams();
      if (state.node >= 0) parts.set("table", graph.nodes[state.node].key);
      if (pinned) {
        const of = graph.nodes[pinned.node];
        parts.set("column", (pinned.node === state.node ? "" : `${of.key}/`) + of.columns[pinned.column]);
      }
      if (state.all) parts.set("all", "1");
      else {
        if (state.up !== 1) parts.set("up", state.up);
        if (state.down !== 1) parts.set("down", state.down);
      }
      const hash = `#${parts}`;
      if (parts.size && hash !== location.hash) history[how](null, "", hash);
    }

    function recall() {
      const parts = new URLSearchParams(location.hash.slice(1));
      const steps = (name) => Math.min(99, Math.max(0, parseInt(parts.get(name) ?? "1", 10) || 0));
      const chosen = graph.byKey.get(parts.get("table") ?? "");
      state.node = chosen ? chosen.index : startNode();
      Object.assign(state, { up: steps("up"), down: steps("down"), all: parts.has("all") });
      missing = parts.has("table") && !chosen ? parts.get("table") : "";
      pinned = null;
      const said = parts.get("column") ?? "";
      const places = [[chosen, said]]; // "column" of the table, or "table/column"
      for (let at = said.indexOf("/"); at > 0; at = said.indexOf("/", at + 1)) {
        places.push([graph.byKey.get(said.slice(0, at)), said.slice(at + 1)]);
      }
      const [of, name] = places.find(([node, column]) => node?.columns.includes(column)) ?? [];
      if (of) pinned = { node: of.index, column: of.columns.indexOf(name) };
      state.more.clear();
      show({ fit: true });
    }

    // Without a choice: everything, if that can be taken in, around the table that most comes together in.
    function startNode() {
      if (graph.nodes.length <= 40) return -1;
      const score = (node) => (node.released ? 1000 : 0) + node.parents.length + node.children.length;
      return graph.nodes.reduce((best, node) => (score(node) > score(graph.nodes[best]) ? node.index : best), 0);
    }

    function find() {
      const result = new Set();
      if (state.all || state.node < 0) graph.nodes.forEach((node) => result.add(node.index));
      else {
        result.add(state.node);
        for (const index of reach(graph, state.node, state.up, "parents").keys()) result.add(index);
        for (const index of reach(graph, state.node, state.down, "children").keys()) result.add(index);
        for (const one of state.more) {
          const [index, direction] = one.split(" ");
          graph.nodes[+index][direction].forEach((each) => result.add(each));
        }
        if (pinned) for (const index of trace(graph, pinned.node, pinned.column).columns.keys()) result.add(index);
      }
      return result;
    }

    // The columns that a card shows now, in their order; the traced ones even where it is closed.
    function columnsOf(index) {
      const node = graph.nodes[index];
      const traced = pinned ? found.columns.get(index) : null;
      if (state.expanded.has(index)) {
        const every = node.columns.map((_, column) => column);
        if (state.long.has(index) || every.length <= MOST_COLUMNS) return every;
        return every.filter((column) => column < MOST_COLUMNS || (traced && traced.has(column)));
      }
      return traced ? [...traced].sort((a, b) => a - b).slice(0, MOST_COLUMNS) : [];
    }

    let found = { columns: new Map(), links: [] };

    function heightOf(index) {
      const columns = columnsOf(index).length;
      const rest = state.expanded.has(index) && columns < graph.nodes[index].columns.length ? 1 : 0;
      return HEAD + (columns ? (columns + rest) * ROW + PAD : 0);
    }

    function show({ fit: refit = false, keep = -1, focus = null } = {}) {
      const before = keep >= 0 && drawn ? drawn.positions.get(keep) : null;
      found = pinned ? trace(graph, pinned.node, pinned.column) : { columns: new Map(), links: [] };
      visible = find();
      drawn = layout(graph, visible, heightOf);
      draw();
      remember();
      tell();
      resize();
      if (refit) fit();
      else if (before && drawn.positions.has(keep)) {
        const now = drawn.positions.get(keep);
        canvas.scrollLeft += (now.x - before.x) * scale;
        canvas.scrollTop += (now.y - before.y) * scale;
      }
      if (focus) {
        const card = cards.get(focus[0]);
        card?.querySelector(`[data-column="${focus[1]}"]`)?.focus({ preventScroll: true });
      }
    }

    function tell() {
      const total = graph.nodes.length;
      const shown = visible.size === total ? "All" : `${numbers.format(visible.size)} of`;
      status.textContent = `${missing ? `There is no ${missing} in this release. ` : ""}${shown} ${plural(total, "table")} and dashboards`;
      const chosen = state.node >= 0 && !state.all;
      counts.up.textContent = chosen ? state.up : "–";
      counts.down.textContent = chosen ? state.down : "–";
      for (const [direction, of] of [["up", "parents"], ["down", "children"]]) {
        const deepest = state.node >= 0 ? Math.max(0, ...reach(graph, state.node, 99, of).values()) : 0;
        buttons[`${direction}Less`].disabled = !chosen || state[direction] <= 0;
        buttons[`${direction}More`].disabled = !chosen || state[direction] >= deepest;
      }
      buttons.all.setAttribute("aria-pressed", String(state.all || state.node < 0));
      buttons.all.disabled = state.node < 0;
      buttons.columns.disabled = ![...visible].some((index) => graph.nodes[index].columns.length);
      const open = [...visible].filter((index) => graph.nodes[index].columns.length).every((index) => state.expanded.has(index));
      buttons.columns.setAttribute("aria-pressed", String(open && !buttons.columns.disabled));
      const full = toolbar.querySelector(".ln-open");
      if (full && state.node >= 0) full.href = `${prefix}lineage.html#${new URLSearchParams({ table: graph.nodes[state.node].key })}`;
      if (whole) text.replaceChildren(...inWords());
    }

    // The same in words, for those who do not see the graph, and on paper.
    function inWords() {
      if (state.node < 0) return [];
      const node = graph.nodes[state.node];
      const parts = [make("h2", {}, hidden("Lineage of "), named(node))];
      if (node.note) parts.push(make("p", { class: "ln-note" }, node.note));
      const lists = [["parents", "Comes from", "Nothing in this project."], ["children", "Goes into", "Nothing in this project."]];
      parts.push(make("div", { class: "ln-lists" }, ...lists.map(([direction, title, none]) => {
        const all = [...reach(graph, node.index, 99, direction)].map(([index, steps]) => {
          const about = kindName(graph.nodes[index]).toLowerCase() + (steps > 1 ? `, ${steps} steps` : "");
          return make("li", {}, named(graph.nodes[index]), " ", make("span", { class: "ln-muted" }, about));
        });
        return make("section", {}, make("h3", {}, title), all.length ? make("ul", {}, ...all) : make("p", { class: "ln-muted" }, none));
      })));
      if (pinned) {
        const of = graph.nodes[pinned.node];
        const ends = (direction) => {
          const columns = trace(graph, of.index, pinned.column, [direction]).columns;
          columns.delete(of.index);
          const list = [...columns].flatMap(([index, several]) => [...several].map((column) => make("li", {},
            named(graph.nodes[index]), " ", make("code", {}, make("bdi", {}, graph.nodes[index].columns[column])))));
          return list.length ? make("ul", {}, ...list) : make("p", { class: "ln-muted" }, "No column.");
        };
        parts.push(make("h2", {}, "Column ", make("code", {}, make("bdi", {}, of.columns[pinned.column])), " of ", named(of)),
          make("div", { class: "ln-lists" },
            make("section", {}, make("h3", {}, "Made of"), ends("above")), make("section", {}, make("h3", {}, "Used in"), ends("below"))));
      }
      return parts;
    }

    function named(node) {
      const name = make("bdi", {}, node.name);
      return node.link ? make("a", { href: prefix + node.link }, name) : make("span", {}, name);
    }

    // --- drawing

    function draw() {
      svg.setAttribute("width", drawn.width);
      svg.setAttribute("height", drawn.height);
      world.style.width = `${drawn.width}px`;
      world.style.height = `${drawn.height}px`;
      const order = [...drawn.positions].sort(([, a], [, b]) => a.rank - b.rank || a.y - b.y);
      cards = new Map(order.map(([index, at]) => [index, card(graph.nodes[index], at)]));
      world.replaceChildren(svg, ...cards.values());
      const lines = drawn.ways.map((way) => {
        const path = drawing("path", { d: curve(way, middle(way.from), middle(way.to)), class: "ln-edge" });
        path.dataset.from = way.from;
        path.dataset.to = way.to;
        return path;
      });
      svg.replaceChildren(...lines);
      if (pinned) paint(found, true);
    }

    const middle = (index) => drawn.positions.get(index).y + HEAD / 2;

    function curve(way, from, to) {
      const before = drawn.positions.get(way.from);
      const start = before.x + before.width, end = drawn.positions.get(way.to).x;
      let [x, y] = [start, from];
      let d = `M${x} ${y}`;
      const bend = (toX, toY) => {
        const half = (toX - x) / 2;
        d += `C${x + half} ${y} ${toX - half} ${toY} ${toX} ${toY}`;
        [x, y] = [toX, toY];
      };
      for (const [atX, atY, wide] of way.through) {
        bend(atX, atY);
        d += `H${atX + wide}`;
        x = atX + wide;
      }
      bend(end, to);
      return d;
    }

    function card(node, at) {
      const kind = kindOf(node);
      const isChosen = node.index === state.node;
      const schema = node.kind !== "source" && graph.hasSchemas ? node.schema : "";
      const about = [schema, node.rows === null ? "" : rowsOf(node.rows)].filter(Boolean).join(" · ") || kindName(node);
      const title = [
        icon(kind), make("bdi", { class: "ln-name" }, node.name),
        hidden(`, ${kindName(node)}${node.state ? `, ${STATES[node.state]}` : ""}`),
      ];
      const header = make("header", {},
        node.link
          ? make("a", { class: "ln-title", href: prefix + node.link, title: node.name }, ...title)
          : make("span", { class: "ln-title", tabindex: "0", role: "link", "aria-disabled": "true", title: node.name }, ...title),
        make("div", { class: "ln-meta" },
          node.state ? make("span", { class: `ln-dot ln-${node.state}`, title: STATES[node.state] }) : null,
          make("span", { class: "ln-about", title: about }, about),
          make("span", { class: "ln-tools" }, isChosen && !state.all ? null : target(node), node.columns.length ? expander(node) : null)));
      const on = {
        mouseenter: () => near(node.index), mouseleave: () => near(-1),
        focusin: () => near(node.index), focusout: () => near(-1), keydown: (event) => walk(event, node.index),
      };
      const style = `left:${at.x}px;top:${at.y}px;width:${at.width}px;height:${at.height}px`;
      return make("article", { class: `ln-card${isChosen ? " ln-chosen" : ""}`, "data-kind": kind, "data-key": node.key, style, on },
        header, columnList(node), stub(node, "parents", "ln-left", "upstream"), stub(node, "children", "ln-right", "downstream"));
    }

    const target = (node) => make("button", {
      type: "button", class: "ln-focus", title: "Show what is around it", "aria-label": `Show what is around ${node.name}`,
      on: { click: () => go(node.index) },
    }, icon("focus"));

    function expander(node) {
      const isOpen = state.expanded.has(node.index);
      const click = () => {
        state.expanded[isOpen ? "delete" : "add"](node.index);
        show({ keep: node.index });
        cards.get(node.index).querySelector(".ln-expand").focus({ preventScroll: true });
      };
      const about = { "aria-expanded": String(isOpen), title: isOpen ? "Hide the columns" : "Show the columns" };
      return make("button", { type: "button", class: "ln-expand", ...about, on: { click } },
        plural(node.columns.length, "col"), hidden(` of ${node.name}`), icon("columns"));
    }

    function columnList(node) {
      const columns = columnsOf(node.index);
      if (!columns.length) return null;
      const list = make("ul", { class: "ln-columns" }, ...columns.map((column) => make("li", {}, row(node, column))));
      const rest = node.columns.length - columns.length;
      if (state.expanded.has(node.index) && rest) {
        const click = () => {
          state.long.add(node.index);
          show({ keep: node.index, focus: [node.index, MOST_COLUMNS] });
        };
        list.append(make("li", {}, make("button", { type: "button", class: "ln-rest", on: { click } }, plural(rest, "more column"))));
      }
      return list;
    }

    // "+2" at the side of a card: so much there is out of sight.
    function stub(node, direction, side, where) {
      const out = node[direction].filter((each) => !visible.has(each)).length;
      const click = () => {
        state.more.add(`${node.index} ${direction}`);
        show({ keep: node.index });
        cards.get(node.index).querySelector(".ln-title").focus({ preventScroll: true });
      };
      return out ? make("button", { type: "button", class: `ln-more ${side}`, title: `${out} more ${where}`, on: { click } },
        `+${out}`, hidden(` more ${where} of ${node.name}`)) : null;
    }

    function row(node, column) {
      const isPinned = pinned && pinned.node === node.index && pinned.column === column;
      const off = () => paint(pinned ? found : null, Boolean(pinned));
      const on = () => paint(trace(graph, node.index, column), false);
      return make("button", {
        type: "button", "data-column": column, "aria-pressed": String(Boolean(isPinned)), title: `${node.columns[column]}: follow this column`,
        class: isPinned ? "ln-pinned" : null,
        on: { click: () => pin(node.index, column), mouseenter: on, mouseleave: off, focus: on, blur: off },
      }, make("bdi", { class: "ln-name" }, node.columns[column]),
      node.pii.includes(column) ? make("span", { class: "ln-pii" }, "pii") : null,
      make("span", { class: "ln-type" }, (node.types[column] || "").toLowerCase()));
    }

    // The edges of a card come to the front while it is looked at.
    function near(index) {
      for (const path of svg.querySelectorAll(".ln-edge")) {
        path.classList.toggle("ln-near", +path.dataset.from === index || +path.dataset.to === index);
      }
    }

    // Marks the columns of a trace, and draws the ways between them; null ends it.
    function paint(traced, isPinned) {
      root.classList.toggle("ln-tracing", Boolean(traced));
      for (const path of svg.querySelectorAll(".ln-column-edge")) path.remove();
      for (const [index, element] of cards) {
        const columns = traced?.columns.get(index);
        element.classList.toggle("ln-lit", Boolean(columns));
        for (const button of element.querySelectorAll("[data-column]")) {
          button.classList.toggle("ln-lit", Boolean(columns?.has(+button.dataset.column)));
        }
      }
      if (!traced) return;
      const ways = new Map(drawn.ways.map((way) => [`${way.from} ${way.to}`, way]));
      const paths = new Set();
      for (const [from, fromColumn, to, toColumn] of traced.links) {
        if (!drawn.positions.has(from) || !drawn.positions.has(to)) continue;
        const way = ways.get(`${from} ${to}`) ?? { from, to, through: [] };
        paths.add(curve(way, columnMiddle(from, fromColumn), columnMiddle(to, toColumn)));
      }
      svg.append(...[...paths].map((d) => drawing("path", { d, class: `ln-column-edge${isPinned ? " ln-pinned" : ""}` })));
    }

    function columnMiddle(index, column) {
      const at = columnsOf(index).indexOf(column);
      return at < 0 ? middle(index) : drawn.positions.get(index).y + HEAD + at * ROW + ROW / 2;
    }

    // --- moving about

    function resize() {
      sizer.style.width = `${drawn.width * scale}px`;
      sizer.style.height = `${drawn.height * scale}px`;
      world.style.transform = `scale(${scale})`;
      canvas.style.setProperty("--ln-height", `${Math.ceil(drawn.height * scale)}px`);
    }

    function zoom(to, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
      const before = scale;
      fitted = false;
      scale = Math.min(2, Math.max(0.15, to));
      resize();
      canvas.scrollLeft = (canvas.scrollLeft + x) * (scale / before) - x;
      canvas.scrollTop = (canvas.scrollTop + y) * (scale / before) - y;
    }

    // As large as it can be with all of it in view, but not so small that nothing can be read.
    function fit(smallest = null) {
      const narrow = canvas.clientWidth < 600;
      const tallest = Math.max(240, parseFloat(getComputedStyle(canvas).maxHeight) || window.innerHeight * 0.7);
      const least = smallest ?? (narrow ? 0.75 : state.all || state.node < 0 ? 0.3 : 0.55);
      scale = Math.min(1, Math.max(least, Math.min(canvas.clientWidth / drawn.width, tallest / drawn.height)));
      fitted = true;
      resize();
      const at = drawn.positions.get(state.node);
      if (at) {
        canvas.scrollLeft = (at.x + at.width / 2) * scale - canvas.clientWidth / 2;
        canvas.scrollTop = (at.y + HEAD / 2) * scale - canvas.clientHeight / 2;
      }
    }

    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      zoom(scale * Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });

    // A finger scrolls by itself; a mouse drags.
    canvas.addEventListener("pointerdown", (event) => {
      if (event.pointerType !== "mouse" || event.button !== 0 || event.target.closest("a, button")) return;
      const start = { x: event.clientX + canvas.scrollLeft, y: event.clientY + canvas.scrollTop };
      const move = (now) => {
        canvas.scrollLeft = start.x - now.clientX;
        canvas.scrollTop = start.y - now.clientY;
      };
      const end = () => {
        canvas.classList.remove("ln-dragging");
        canvas.removeEventListener("pointermove", move);
      };
      canvas.setPointerCapture(event.pointerId);
      canvas.classList.add("ln-dragging");
      canvas.addEventListener("pointermove", move);
      canvas.addEventListener("pointerup", end, { once: true });
      canvas.addEventListener("pointercancel", end, { once: true });
    });

    // Arrow keys follow the edges: left and right to the nearest card there, or column; up and down within one.
    function walk(event, index) {
      const steps = { ArrowLeft: "parents", ArrowRight: "children", ArrowUp: -1, ArrowDown: 1 };
      const to = steps[event.key];
      if (!to || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const column = event.target.dataset?.column;
      const at = drawn.positions.get(index);
      if (column !== undefined) {
        const element = event.target.closest("li");
        if (typeof to === "number") (to < 0 ? element.previousElementSibling : element.nextElementSibling)?.firstElementChild.focus();
        else {
          const pairs = graph.nodes[index][to === "parents" ? "above" : "below"][+column] || [];
          for (let i = 0; i < pairs.length; i += 2) {
            const target = cards.get(pairs[i])?.querySelector(`[data-column="${pairs[i + 1]}"]`);
            if (target) { target.focus(); break; }
          }
        }
        return;
      }
      const others = typeof to === "number"
        ? [...drawn.positions].filter(([, each]) => each.rank === at.rank && (each.y - at.y) * to > 0)
        : graph.nodes[index][to].filter((each) => drawn.positions.has(each)).map((each) => [each, drawn.positions.get(each)]);
      others.sort(([, a], [, b]) => Math.abs(a.y - at.y) - Math.abs(b.y - at.y));
      if (others.length) cards.get(others[0][0]).querySelector(".ln-title").focus();
    }

    root.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && pinned) pin(pinned.node, pinned.column);
    });
    let width = 0;
    new ResizeObserver(() => { // its height follows what is in it, and is no reason
      if (fitted && drawn && width && width !== canvas.clientWidth) fit();
      width = canvas.clientWidth;
    }).observe(canvas);
    let beforePrint = 1;
    window.addEventListener("beforeprint", () => {
      beforePrint = scale;
      scale = Math.min(1, 680 / drawn.width);
      resize();
    });
    window.addEventListener("afterprint", () => { scale = beforePrint; resize(); });

    if (whole) {
      window.addEventListener("hashchange", recall);
      recall();
    } else {
      state.node = graph.byKey.get(root.dataset.node)?.index ?? -1;
      if (state.node < 0) root.hidden = true;
      else show({ fit: true });
    }
  }

  function start() {
    const data = window.smollData?.lineage;
    const places = document.querySelectorAll("div.lineage");
    if (!data || !places.length) return;
    const graph = read(data);
    for (const place of places) view(place, graph, !("node" in place.dataset));
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
