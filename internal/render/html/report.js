"use strict";
// The page is complete without this: it adds filters, copying, ages and the
// reader's place in the contents.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const said = document.getElementById("said");
  // Cleared first, so that the same words are announced again.
  const say = (words) => {
    said.textContent = "";
    requestAnimationFrame(() => { said.textContent = words; });
  };

  // How long ago the server was read, by the clock of whoever reads this.
  const ago = (seconds) => {
    const units = [[86400, "day"], [3600, "hour"], [60, "minute"]];
    for (const [size, word] of units) {
      const n = Math.floor(seconds / size);
      if (n >= 1) return n + " " + word + (n === 1 ? "" : "s") + " ago";
    }
    return seconds >= 0 ? "just now" : "";
  };
  const read = document.querySelector(".meta time");
  const age = document.querySelector(".meta .ago");
  const words = ago((Date.now() - Date.parse(read.dateTime)) / 1000);
  if (words) {
    age.textContent = " (" + words + ")";
    age.hidden = false;
  }

  // Filters by severity.
  const groups = all(".group");
  for (const bar of all(".filters")) {
    bar.hidden = false;
    const buttons = all("button", bar);
    const show = (severity) => {
      for (const g of groups) g.hidden = severity !== "all" && g.dataset.severity !== severity;
      for (const b of buttons) b.setAttribute("aria-pressed", String(b.dataset.show === severity));
    };
    for (const b of buttons) {
      b.addEventListener("click", () => {
        show(b.dataset.show);
        say(b.dataset.show === "all" ? "All findings are shown" : "Only " + b.dataset.word + " findings are shown");
      });
    }
    // A link to a finding that is filtered away shows it.
    const reveal = () => {
      let target = null;
      try {
        target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
      } catch { /* A fragment that is no name leads nowhere. */ }
      if (!target) return;
      const group = target.closest(".group");
      if (group && group.hidden) show("all");
      for (let d = target.closest("details"); d; d = d.parentElement.closest("details")) d.open = true;
      target.scrollIntoView();
    };
    addEventListener("hashchange", reveal);
    if (location.hash) reveal();
  }

  // Copying. A page from a file or over plain http may have no clipboard to
  // write to; the old command works there, and a selection everywhere.
  const select = (node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };
  const copyOld = (node) => {
    select(node);
    try {
      return document.execCommand("copy");
    } catch {
      return false;
    }
  };
  const copy = async (node) => {
    try {
      await navigator.clipboard.writeText(node.textContent);
      return true;
    } catch {
      return copyOld(node);
    }
  };
  for (const button of all(".copy")) {
    button.hidden = false;
    const label = button.textContent;
    button.addEventListener("click", async () => {
      const copied = await copy(document.getElementById(button.dataset.copy));
      button.textContent = copied ? "Copied" : "Selected";
      button.classList.toggle("done", copied);
      say(copied ? "The fix is copied" : "The fix is selected: press Control or Command and C");
      setTimeout(() => {
        button.textContent = label;
        button.classList.remove("done");
      }, 2000);
    });
  }

  // Only a table that is wider than its place needs a stop of the Tab key.
  const measure = () => {
    for (const s of all(".scroll")) {
      if (s.scrollWidth > s.clientWidth) s.tabIndex = 0;
      else s.removeAttribute("tabindex");
    }
  };
  measure();
  addEventListener("resize", measure);
  for (const d of all("details")) d.addEventListener("toggle", measure);

  // The contents follow the reader.
  const links = new Map(all(".toc a").map((a) => [a.hash.slice(1), a]));
  const strip = document.querySelector(".toc");
  const seen = new Set();
  const follow = (entries) => {
    for (const e of entries) e.isIntersecting ? seen.add(e.target.id) : seen.delete(e.target.id);
    const here = [...links.keys()].find((id) => seen.has(id));
    if (!here) return;
    for (const [id, a] of links) {
      if (id === here) a.setAttribute("aria-current", "true");
      else a.removeAttribute("aria-current");
    }
    const a = links.get(here);
    if (strip.scrollWidth > strip.clientWidth) strip.scrollLeft = a.offsetLeft - 16;
  };
  if ("IntersectionObserver" in window) {
    const observer = new IntersectionObserver(follow, { rootMargin: "-15% 0px -70% 0px" });
    for (const id of links.keys()) observer.observe(document.getElementById(id));
  }

  // On paper everything is open and nothing is filtered away.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details:not([open])");
    for (const d of closed) d.open = true;
  });
  addEventListener("afterprint", () => {
    for (const d of closed) d.open = false;
    closed = [];
  });
})();
