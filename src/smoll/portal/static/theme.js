// Before anything is painted: the theme that was chosen here before. A browser may refuse storage, from the disk above all.
(() => {
  try {
    const chosen = localStorage.getItem("smoll-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {}
})();
