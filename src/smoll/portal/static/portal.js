// What every page does: the theme, how long ago something was, filters of lists, and the search.
(() => {
  "use strict";
  const root = document.body.dataset.root;

  // --- theme: charts hear of a change by the event "smoll:theme"
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
  const tell = () => document.dispatchEvent(new CustomEvent("smoll:theme", { detail: theme() }));
  const button = document.getElementById("theme");
  const label = () => button.setAttribute("aria-label", theme() === "dark" ? "Switch to light" : "Switch to dark");
  button.addEventListener("click", () => {
    const next = theme() === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    try { localStorage.setItem("smoll-theme", next); } catch {}
    label();
    tell();
  });
  dark.addEventListener("change", () => { label(); if (!document.documentElement.dataset.theme) tell(); });
  label();

  // --- what else is served at this address
  for (const { name, href } of window.smollServices ?? []) {
    const link = Object.assign(document.createElement("a"), { href: root + href, textContent: name });
    const item = document.createElement("li");
    item.append(link);
    document.querySelector(".top nav ul").append(item);
    if (name === "Apps")
      for (const one of document.querySelectorAll("a[data-explore]")) {
        one.href = `${root}${href}?table=${encodeURIComponent(one.dataset.explore)}`;
        one.hidden = false;
      }
  }

  // --- how long ago
  const units = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]];
  const words = new Intl.RelativeTimeFormat("en", { numeric: "always", style: "short" });
  const ago = (then) => {
    const seconds = (then - Date.now()) / 1000;
    for (const [unit, length] of units) if (Math.abs(seconds) >= length) return words.format(Math.trunc(seconds / length), unit);
    return "just now";
  };
  const tick = () => {
    for (const one of document.querySelectorAll("time.ago")) one.textContent = ago(Date.parse(one.dateTime));
  };
  tick();
  setInterval(tick, 60000);

  // --- filters of lists: every word must be found
  for (const input of document.querySelectorAll("input[data-filter]")) {
    const items = [...document.querySelectorAll(input.dataset.filter)].map((item) => [item, item.dataset.text.toLowerCase()]);
    const said = input.parentElement.querySelector("[data-filter-count]");
    const apply = () => {
      const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const [item, text] of items) {
        const fits = wanted.every((word) => text.includes(word));
        item.classList.toggle("hidden", !fits);
        shown += fits;
      }
      for (const card of document.querySelectorAll(".card:has(.filtered)"))
        card.classList.toggle("hidden", wanted.length > 0 && !card.querySelector(".filtered:not(.hidden)"));
      said.textContent = wanted.length ? `${shown} of ${items.length}` : "";
    };
    input.addEventListener("input", apply);
    if (input.value) apply();
  }

  // --- search, as a combobox with a list of links
  const box = document.getElementById("search");
  const list = document.getElementById("search-results");
  let index = null;
  let loading = false;
  let chosen = -1;
  const load = () => {
    if (loading) return;
    loading = true;
    const script = document.createElement("script");
    script.src = `${root}data/search.js`;
    script.onload = () => { index = window.smollData.search; find(); };
    document.head.append(script);
  };
  const score = (name, wanted) => {
    const text = name.toLowerCase();
    if (text === wanted) return 100;
    const last = text.slice(text.lastIndexOf(".") + 1);
    if (last === wanted) return 95;
    if (last.startsWith(wanted)) return 80;
    if (text.startsWith(wanted)) return 75;
    return text.includes(wanted) ? 60 : 0;
  };
  const search = (text) => {
    const wanted = text.trim().toLowerCase();
    const parts = wanted.split(/\s+/);
    const has = (said) => parts.every((part) => said.includes(part));
    const found = [];
    for (const [kind, name, href, about, columns] of index) {
      const points = score(name, wanted) || (has(`${name} ${about}`.toLowerCase()) ? 40 : 0);
      if (points) found.push([points + (kind === "Dashboard" ? 3 : kind === "Table" ? 2 : kind === "Source" ? 1 : 0), kind, name, href, about]);
      for (const [column, said] of columns || []) {
        const own = score(column, wanted) || (has(`${name} ${column} ${said}`.toLowerCase()) ? 30 : 0);
        if (own) found.push([own - 15, "Column", `${name}.${column}`, `${href}#columns`, said]);
      }
    }
    return found.sort((a, b) => b[0] - a[0] || a[2].length - b[2].length || (a[2] < b[2] ? -1 : 1)).slice(0, 30);
  };
  const element = (tag, name, text) => {
    const made = document.createElement(tag);
    made.className = name;
    made.textContent = text;
    made.dir = "auto";
    return made;
  };
  const close = () => {
    list.hidden = true;
    chosen = -1;
    box.setAttribute("aria-expanded", "false");
    box.removeAttribute("aria-activedescendant");
  };
  const choose = (place) => {
    const options = list.querySelectorAll('[role="option"]');
    if (!options.length) return;
    options[chosen]?.setAttribute("aria-selected", "false");
    chosen = (place + options.length) % options.length;
    options[chosen].setAttribute("aria-selected", "true");
    options[chosen].scrollIntoView({ block: "nearest" });
    box.setAttribute("aria-activedescendant", options[chosen].id);
  };
  const find = () => {
    if (!box.value.trim()) return close();
    if (!index) return load();
    const found = search(box.value);
    list.replaceChildren(
      ...found.map(([, kind, name, href, about], place) => {
        const link = element("a", "", "");
        link.id = `found-${place}`;
        link.href = root + href;
        link.tabIndex = -1;
        link.setAttribute("role", "option");
        link.setAttribute("aria-selected", "false");
        link.append(element("span", "what", kind), element("span", "found", name));
        if (about) link.append(element("span", "said", about));
        return link;
      })
    );
    if (!found.length) {
      const none = element("div", "none", "Nothing found");
      none.setAttribute("role", "option");
      none.setAttribute("aria-disabled", "true");
      list.append(none);
    }
    list.hidden = false;
    chosen = -1;
    box.setAttribute("aria-expanded", "true");
    box.removeAttribute("aria-activedescendant");
  };
  box.addEventListener("focus", load);
  box.addEventListener("input", find);
  box.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) find();
      else choose(event.key === "ArrowDown" ? chosen + 1 : chosen < 0 ? -1 : chosen - 1);
    } else if (event.key === "Enter") {
      const target = list.querySelectorAll('a[role="option"]')[Math.max(chosen, 0)];
      if (!list.hidden && target) { event.preventDefault(); target.click(); }
    } else if (event.key === "Escape") {
      if (list.hidden) box.blur();
      close();
    }
  });
  document.addEventListener("click", (event) => { if (!event.target.closest(".search")) close(); });
  document.querySelector(".search").addEventListener("focusout", (event) => {
    if (!event.currentTarget.contains(event.relatedTarget)) setTimeout(close, 150);
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      box.focus();
      box.select();
    }
  });
})();
