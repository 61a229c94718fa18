"use strict";
// The site reads without this file. It adds sorting to every table, and to a board: search, filters, columns, export, the
// drawer with a number's sources, and a link to what is in view. The state of a view is the fragment of the address.
(() => {
  const find = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // make("td", {className: "x"}, "text", node): texts are never parsed as HTML
  const make = (name, fields = {}, ...inside) => {
    const node = Object.assign(document.createElement(name), fields);
    node.append(...inside);
    return node;
  };

  // Sorting

  const number = (cell) => (cell.dataset.v === undefined ? null : Number(cell.dataset.v));

  const sort = (table, column, direction) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row, place) => {
      const cell = row.cells[column];
      const label = cell.dataset.name ?? cell.dataset.label ?? cell.textContent.trim();
      return { row, place, value: number(cell), label, clean: row.classList.contains("clean") };
    });
    const numeric = rows.some((one) => one.value !== null);
    rows.sort((a, b) => {
      if (a.clean !== b.clean) return a.clean ? -1 : 1; // clean training is the reference: it stays above
      if (!numeric) return direction * a.label.localeCompare(b.label, "en", { numeric: true }) || a.place - b.place;
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.place - b.place;
      return direction * (a.value - b.value) || a.place - b.place;
    });
    body.append(...rows.map((one) => one.row));
    all("thead th", table).forEach((head, place) => {
      if (place === column) head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
  };

  const sortable = (table, changed) => {
    all("thead th", table).forEach((head, column) => {
      const label = head.dataset.label ?? head.textContent.trim();
      const button = make("button", { type: "button", className: "sort" });
      button.setAttribute("aria-label", `Sort by ${label}`);
      button.addEventListener("click", () => {
        const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        changed ? changed(head.dataset.key, direction) : sort(table, column, direction);
      });
      head.append(button);
    });
    table.classList.add("sorts"); // the buttons stand where the style kept room for them
  };

  all("table.sortable:not(.standing)").forEach((table) => sortable(table));

  // The start page: its tab, which side ranks, columns, filter and order are what the address says

  const list = (text) => (text || "").split(",").filter(Boolean);
  const starts = all(".start");
  const CHOICES = ["ranks", "on", "off", "sort"]; // the last is of one table, the others of both
  const choices = (section) => all(".tools input[type=checkbox]", section).map((box) => ({ box, name: box.className.slice("see-".length) }));

  const rankBy = (section, side) => {
    const table = find("table", section);
    const place = (row) => Number(row.dataset[side]);
    section.dataset.ranks = side;
    const rows = [...table.tBodies[0].rows];
    const ordered = rows.toSorted((a, b) => place(a) - place(b));
    if (ordered.some((row, index) => row !== rows[index])) table.tBodies[0].append(...ordered); // as the page came, nothing moves
    for (const head of all("thead th", table)) head.removeAttribute("aria-sort");
  };

  const sortBy = (table, text) => {
    const [, key, order] = /^(.*):(up|down)$/.exec(text || "") || [];
    const column = all("thead th", table).findIndex((head) => head.dataset.key === key);
    if (column >= 0) sort(table, column, order === "down" ? -1 : 1);
  };

  const begin = () => {
    let view = new URLSearchParams();
    const tabs = all(".tabs a").map((link) => ({ link, tab: link.hash.slice(1) }));
    const skips = all(".skip").filter((link) => tabs.some(({ tab }) => link.hash === `#${tab}`));
    const tab = () => (starts.find((section) => section.id === view.get("tab")) || starts[0]).id;
    const address = (of) => { // of a tab with the choices that are made; plain, so that it works without script, where there are none
      const fields = new URLSearchParams({ tab: of });
      for (const name of of === tab() ? CHOICES : CHOICES.slice(0, -1)) if (view.get(name)) fields.set(name, view.get(name));
      return `#${[...fields].length > 1 ? fields : of}`;
    };
    const show = () => {
      const [on, off] = [new Set(list(view.get("on"))), new Set(list(view.get("off")))];
      document.body.dataset.tab = tab();
      for (const section of starts) {
        for (const { box, name } of choices(section)) box.checked = box.defaultChecked ? !off.has(name) : on.has(name);
        const side = find(`.ranks [value="${CSS.escape(view.get("ranks"))}"]`, section) || find(".ranks [value=theirs]", section);
        if (side) side.checked = true;
        rankBy(section, side ? side.value : "theirs");
        if (section.id === tab()) sortBy(find("table", section), view.get("sort"));
      }
      for (const { link, tab: of } of tabs) link.setAttribute("href", address(of));
      for (const link of all(".chips a")) link.hash = [...view].length ? address(tab()) : "";
      for (const link of skips) link.setAttribute("href", `#${tab()}-title`); // which is no choice
    };
    const change = (fields) => {
      for (const [name, value] of Object.entries(fields)) value ? view.set(name, value) : view.delete(name);
      history.replaceState(null, "", address(tab()));
      show();
    };
    const read = () => {
      const text = location.hash.slice(1);
      if (text.includes("=")) view = new URLSearchParams(text);
      else if (!text || starts.some((section) => section.id === text)) view = new URLSearchParams(text && { tab: text });
      show(); // another fragment, as that of the citation, is another place of the same view
    };
    for (const section of starts) {
      const table = find("table", section);
      for (const head of all("thead th", table)) head.dataset.key = head.dataset.label ?? head.textContent.trim();
      sortable(table, (key, direction) => change({ sort: `${key}:${direction > 0 ? "up" : "down"}` }));
      find(".needs-script", section).hidden = true;
      if (find(".ranks", section)) find(".ranks", section).hidden = false;
      find(".tools", section).addEventListener("change", ({ target }) => {
        if (target.type === "radio") return change({ ranks: target.value === "theirs" ? "" : target.value, sort: "" });
        const [name, other] = [target.className.slice("see-".length), target.defaultChecked ? "off" : "on"];
        const kept = list(view.get(other)).filter((one) => one !== name);
        change({ [other]: [...kept, ...(target.checked === target.defaultChecked ? [] : [name])].join(",") });
      });
    }
    read();
    addEventListener("hashchange", read);
    addEventListener("pageshow", show); // after the browser put back what boxes were
  };
  if (starts.length) begin();

  // a tooltip for the bar that is pointed at

  const nameBar = ({ target, clientX }) => {
    const strip = target.closest(".strip");
    if (!strip) return;
    const values = strip.dataset.values.split(",");
    const { left, width } = strip.getBoundingClientRect();
    const index = Math.min(values.length - 1, Math.floor((values.length * (clientX - left)) / width));
    const [name, cell] = [JSON.parse(strip.closest("table").dataset.others)[index], strip.closest("td")];
    cell.title = values[index] ? `${name}: ${values[index]}` : `${name}: no result`;
  };
  for (const table of all(".standing[data-others]")) table.addEventListener("pointermove", nameBar);

  const table = find("#board");
  if (!table) return;

  // The view: what the fragment says, shown

  const heads = all("thead th", table);
  const rows = [...table.tBodies[0].rows];
  const tools = find("#tools");
  const drawer = find("#drawer");
  const data = { get shared() { return this.read.shared; }, get cells() { return this.read.cells; },
    get read() { // parsed when it is first needed
      const value = JSON.parse(find("#data").textContent);
      Object.defineProperty(this, "read", { value });
      return value;
    } };
  const tagged = (node) => (node.dataset.tags || "").split("|").filter(Boolean);

  const idOf = (link) => link.getAttribute("href").split("#c-")[1]; // of the cell that a number is of
  const linkTo = (cell) => cell && find(`td a[href$="#c-${CSS.escape(cell)}"]`, table);

  const state = () => new URLSearchParams(location.hash.slice(1));
  const change = (fields) => {
    const next = state();
    for (const [name, value] of Object.entries(fields)) value ? next.set(name, value) : next.delete(name);
    history.replaceState(null, "", `#${next}`);
    show();
  };

  const toggleColumn = (column, hidden) => {
    for (const row of table.rows) row.cells[column].hidden = hidden;
  };

  // The best epoch instead of the last one: an oracle's numbers, from the sources, apart from all that ranks

  let oracle = false;
  const spread = (values) => {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    return { mean, std: values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : null };
  };
  const tint = (cell) => [...cell.classList].find((name) => /^h\d+$/.test(name));
  const put = (cell, link, { v, s, text, heat }) => {
    cell.dataset.v = v;
    s === undefined ? delete cell.dataset.s : (cell.dataset.s = s);
    link.textContent = text;
    cell.classList.remove(tint(cell));
    cell.classList.add(heat);
  };
  const last = new Map(); // what cells say of the last epoch
  const judge = (best) => {
    if (best === oracle) return false;
    oracle = best;
    for (const link of all("tbody td[data-v] a", table)) {
      const cell = link.closest("td");
      const runs = (data.cells[idOf(link)] || []).filter((run) => run.best !== undefined && !run.apart); // as in the mean of the last epoch
      if (!runs.length) continue;
      if (!last.has(cell)) last.set(cell, { v: cell.dataset.v, s: cell.dataset.s, text: link.textContent, heat: tint(cell) });
      const { mean, std } = spread(runs.map((run) => run.best));
      const heat = `h${Math.min(10, Math.round((10 * mean) / table.dataset.top))}`;
      const text = percent(mean) + (std === null ? "" : ` ± ${percent(std)}`);
      put(cell, link, best ? { v: mean, s: std === null ? undefined : std, text, heat } : last.get(cell));
    }
    table.classList.toggle("best-epoch", best);
    find("#oracle").hidden = !best;
    return true;
  };

  // without the numbers that others report: these are neither sorted nor exported then
  const alone = (own) => {
    for (const cell of all("td.reported", table)) {
      for (const name of ["v", "s"]) {
        const [from, to] = own ? [name, `${name}Reported`] : [`${name}Reported`, name];
        if (cell.dataset[from] === undefined) continue;
        cell.dataset[to] = cell.dataset[from];
        delete cell.dataset[from];
      }
    }
    table.classList.toggle("own", own);
    if (find("#others")) find("#others").checked = !own;
  };

  // ranks, means and worst cases are of all columns, also of those that are not shown
  const counting = () => {
    const sums = heads.some((head) => !head.hidden && head.matches(".sum"));
    const count = heads.filter((head) => head.hidden && !head.matches(".sum")).length;
    return sums && count ? `${count} hidden column${count > 1 ? "s" : ""} counted` : "";
  };

  let sorted = null;
  const show = () => {
    const view = state();
    alone(false); // the best epoch is of every number
    const other = judge(view.has("best"));
    find("#best").checked = oracle;
    const off = new Set(list(view.get("off")));
    const hidden = new Set(list(view.get("hide")));
    const words = (view.get("q") || "").toLowerCase().split(/\s+/).filter(Boolean);
    find("#search").value = view.get("q") || "";
    find("#heat").checked = !view.has("plain");
    table.classList.toggle("plain", view.has("plain"));
    alone(view.has("own"));
    for (const box of all("[data-tag]", tools)) box.checked = !off.has(box.dataset.tag);
    for (const box of all("[data-column]", tools)) box.checked = !hidden.has(box.dataset.column);
    heads.forEach((head, column) => {
      const gone = hidden.has(head.dataset.key) || (oracle && head.matches(".sum")) || tagged(head).some((tag) => off.has(tag));
      if (gone !== head.hidden) toggleColumn(column, gone);
    });
    for (const row of rows) {
      const { label, name } = row.cells[0].dataset;
      const text = `${label} ${name} ${row.dataset.words}`.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word)) || tagged(row).some((tag) => off.has(tag));
    }
    if (view.get("sort") !== sorted || other) {
      sorted = view.get("sort");
      const [key, order] = (sorted || "").split(":");
      const column = heads.findIndex((head) => head.dataset.key === key);
      if (column >= 0 && !(oracle && heads[column].matches(".sum"))) sort(table, column, order === "down" ? -1 : 1);
      else {
        table.tBodies[0].append(...rows);
        for (const head of heads) head.removeAttribute("aria-sort");
      }
    }
    const left = rows.filter((row) => !row.hidden).length;
    const few = left === rows.length ? "" : `${left} of ${rows.length} rows`;
    const unseen = counting() && `rank, mean, worst case: ${counting()}`;
    find("#count").textContent = [few, unseen].filter(Boolean).join("; ");
    const cell = view.get("cell");
    const link = linkTo(cell);
    if (link) open(link);
    else if (drawer.open) drawer.close();
  };

  // The drawer

  const SVG = "http://www.w3.org/2000/svg";
  const curves = (runs) => {
    const svg = document.createElementNS(SVG, "svg");
    const drawn = runs.filter((run) => run.curve && run.curve.length > 1);
    svg.setAttribute("viewBox", "0 0 460 126");
    svg.setAttribute("class", "figure");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", "Test accuracy per epoch, one line per seed");
    const add = (name, fields, text = "") => {
      const node = document.createElementNS(SVG, name);
      for (const [key, value] of Object.entries(fields)) node.setAttribute(key, value);
      node.textContent = text;
      svg.append(node);
    };
    for (const share of [0, 50, 100]) {
      add("path", { class: "rule", d: `M30 ${106 - share}H460` });
      add("text", { class: "tick end", x: 26, y: 110 - share }, share);
    }
    add("text", { class: "tick", x: 30, y: 122 }, "first epoch");
    add("text", { class: "tick end", x: 460, y: 122 }, "last epoch");
    drawn.forEach((run, place) => {
      const points = run.curve.map((y, x) => `${30 + (430 * x) / (run.curve.length - 1)},${106 - y / 10}`).join(" ");
      add("polyline", { class: `line c${place % 7}`, points });
    });
    return drawn.length ? svg : "";
  };

  const percent = (share) => { // as the pages round: a tie goes to the even digit
    const points = 100 * share;
    return (points % 1 === 0.25 ? Math.floor(points) + 0.2 : points).toFixed(1);
  };
  const command = (run) => {
    const text = `bench run --cell ${run.id}`;
    const button = make("button", { type: "button" }, "Copy");
    button.addEventListener("click", () => copy(text, button));
    return make("p", {}, make("code", {}, text), " ", button);
  };

  // how a number is cited: by the address of the publication, of this page, or, from a disk, a relative one
  const cited = (link, title) => {
    const known = find("link[rel=canonical]");
    const href = link.getAttribute("href");
    const address = known || location.protocol !== "file:" ? new URL(href, known ? known.href : location.href).href : href;
    const told = errata(link.closest("td"));
    const sentence = `${title}: ${link.textContent} % test accuracy${oracle ? " of the best epoch" : ""} (${find("h1").textContent.trim()})${told.map((one) => `; ${one.replace(/\.$/, "")}`).join("")}. Unlearnable Bench.`;
    const fields = `  note = {${escapes.LaTeX(sentence)}},\n${address === href ? "" : `  url = {${address}},\n`}}`;
    const bibtex = find("footer code").textContent.trim().replace(/^(@misc\{[^,]*)/, `$1-${idOf(link)}`).replace(/ {2}note = .*\n\}$/, () => fields);
    const button = make("button", { type: "button" }, "Copy");
    button.addEventListener("click", () => copy(`${sentence} ${address}\n\n${bibtex}\n`, button));
    return make("details", {}, make("summary", {}, "Cite this number"), make("p", { className: "address" }, `${sentence} ${address} `, button),
      make("pre", { tabIndex: 0 }, make("code", {}, bibtex)));
  };

  const open = (link) => {
    const cell = link.closest("td");
    const runs = data.cells[idOf(link)] || [];
    const labels = [cell.parentNode.cells[0].dataset.label, heads[cell.cellIndex].dataset.label];
    find("#drawer-title").textContent = labels.join(" × ");
    const seeds = make("table", { className: "sources" });
    const line = (kind, ...texts) => make("tr", {}, ...texts.map((text) => make(kind, {}, text)));
    seeds.append(make("thead", {}, line("th", "seed", "last epoch", "best epoch", "seconds")), make("tbody"));
    for (const run of runs) {
      const known = run.acc !== undefined;
      seeds.tBodies[0].append(known ? line("td", run.seed, percent(run.acc), percent(run.best), run.seconds) : line("td", run.seed, run.why, "", ""));
    }
    const facts = make("dl", { className: "facts" });
    const fact = (name, text) => text && facts.append(make("div", {}, make("dt", {}, name), make("dd", {}, text)));
    // what seeds share is said once
    const known = runs.filter((run) => run.shared).map((run) => [run.seed, Object.assign({}, ...run.shared.map((place) => data.shared[place]))]);
    for (const name of new Set(known.flatMap(([, texts]) => Object.keys(texts)))) {
      const same = known.every(([, texts]) => texts[name] === known[0][1][name]);
      for (const [seed, texts] of same ? known.slice(0, 1) : known) fact(same ? name : `${name}, seed ${seed}`, texts[name]);
    }
    for (const run of runs) {
      fact(`measured by others, seed ${run.seed}`, run.by && run.by + (run.apart ? "; not in the number above" : ""));
      fact(`finished, seed ${run.seed}`, run.finished);
      fact(`peak memory, seed ${run.seed}`, run.memory);
    }
    find("#drawer-body").replaceChildren(
      make("p", {}, make("strong", {}, link.textContent), oracle ? " best epoch " : " ", make("a", { href: link.getAttribute("href") }, "All about it")),
      ...runs.filter((run) => run.errata).map((run) => make("p", {}, `Seed ${run.seed}: ${run.errata.join("; ")}`)),
      ...runs.filter((run) => run.why && run.acc !== undefined).map((run) => make("p", {}, `Seed ${run.seed}: ${run.why}`)),
      make("div", { className: "scroll" }, seeds),
      curves(runs),
      ...runs.map(command),
      cell.dataset.v === undefined ? "" : cited(link, labels.join(" × ")),
      facts,
    );
    if (!drawer.open) drawer.showModal();
    drawer.scrollTop = 0;
  };

  table.addEventListener("click", (event) => {
    const link = event.target.closest("td a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    change({ cell: idOf(link) });
  });
  drawer.addEventListener("close", () => {
    const link = linkTo(state().get("cell"));
    change({ cell: "" });
    if (link) link.focus();
  });
  drawer.addEventListener("click", (event) => {
    if (event.target === drawer) drawer.close();
  });

  // Export: rows and columns as they stand

  const hiding = () => { // what the view leaves out, in words that every export carries
    const left = rows.filter((row) => !row.hidden).length;
    const words = state().get("q");
    const gone = heads.filter((head) => head.hidden).map((head) => head.dataset.label);
    const parts = [
      left < rows.length && `${left} of ${rows.length} rows${words ? `, search ${words}` : ""}`,
      gone.length && `hidden columns ${gone.join(", ")}`,
      oracle && "best epoch",
      state().has("own") && "without numbers that others report",
    ].filter(Boolean);
    return `View: ${parts.join("; ") || "all rows and columns"}`;
  };
  const errata = (cell) => [...new Set(((link) => (link ? data.cells[idOf(link)] || [] : []))(find("a", cell)).flatMap((run) => run.errata || []))];

  const inView = () => {
    const columns = heads.map((head, place) => ({ head, place })).filter(({ head }) => !head.hidden);
    const texts = (cell) => { // what the page says, never rounded anew
      if (cell.dataset.label !== undefined) return cell.dataset.name ?? cell.dataset.label;
      if (cell.dataset.v === undefined) return "–";
      const shown = (find("a", cell) || cell).firstChild.textContent.trim();
      return shown + (cell.dataset.tier ? ` (${cell.dataset.tier})` : "");
    };
    const lines = [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => columns.map(({ place }) => row.cells[place]));
    const unseen = counting();
    const saying = (text, { head, place }) => text + (oracle && place ? ", best epoch" : "")
      + (unseen && head.matches(".sum") ? ` (${unseen})` : "");
    const labels = columns.map((one) => saying(one.head.dataset.label, one));
    const called = columns.map((one) => saying(one.head.dataset.name ?? one.head.dataset.label, one));
    return { labels, called, names: columns.map(({ head }) => head.dataset.label), lines, hidden: hiding(), texts: lines.map((line) => line.map(texts)) };
  };
  const escapes = {
    CSV: (text) => `"${(/^[=+\-@\t\r]/.test(text) && isNaN(text) ? `'${text}` : text).replaceAll('"', '""')}"`,
    Markdown: (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replace(/[\\`*_[\]|~$#]/g, "\\$&"),
    LaTeX: (text) => text.replace(/[\\{}$&#_%~^<>|±–×[\]*"]/g, (one) => ({ "\\": "\\textbackslash{}", "~": "\\textasciitilde{}",
      "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}", "±": "$\\pm$", "–": "--",
      "×": "$\\times$", "[": "{[}", "]": "{]}", "*": "{*}", '"': "\\textquotedbl{}" })[one] || `\\${one}`),
  };
  const caption = () => find("caption", table).textContent.trim().replace(/\s+/g, " ");
  const FITTING = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%"; // no wider than the page
  const exports = {
    CSV: ({ labels, lines, hidden }) => {
      const others = find("td[data-tier]", table) !== null; // then whose a number is stands beside it
      const columns = labels.flatMap((label, place) => (place ? [label, `${label} std`, ...(others ? [`${label} tier`] : [])] : [label]));
      const head = [...columns, "unit", "errata", "view"];
      const said = ({ dataset }) => [dataset.v || "", dataset.s || "", ...(others ? [(dataset.v && dataset.tier) || ""] : [])];
      const body = lines.map((line) => [...line.flatMap((cell, place) => (place ? said(cell) : [cell.dataset.label])), "fraction", line.flatMap(errata).join("; "), hidden]);
      return [head, ...body].map((line) => line.map(escapes.CSV).join(",")).join("\n") + "\n";
    },
    JSON: ({ labels, lines, hidden }) => JSON.stringify(lines.flatMap((line) => line.slice(1).map((cell, place) => ({
      row: line[0].dataset.label, column: labels[place + 1], value: number(cell),
      std: cell.dataset.s === undefined ? null : Number(cell.dataset.s), tier: cell.dataset.tier || "",
      unit: cell.matches(".rank") ? "rank" : "fraction",
      records: ((link) => (link ? (data.cells[idOf(link)] || []).map((run) => run.id) : []))(find("a", cell)),
      errata: errata(cell), view: hidden,
    }))), null, 1) + "\n",
    Markdown: ({ called, texts, lines, hidden }) => [called, called.map((_, place) => (place ? "---:" : "---")), ...texts]
      .map((line, place) => `| ${line.map((text) => (place === 1 ? text : escapes.Markdown(text))).join(" | ")} |`).join("\n")
      + `\n\n${[caption(), hidden, ...lines.flatMap((line) => line.flatMap(errata))].map(escapes.Markdown).join("\n\n")}\n`,
    LaTeX: ({ called, texts, lines, hidden }) => [...[caption(), hidden, ...lines.flatMap((line) => line.flatMap(errata))].map((text) => `% ${text}`), "% needs \\usepackage{booktabs,graphicx}", FITTING,
      `\\begin{tabular}{l${"r".repeat(called.length - 1)}}`, "\\toprule",
      ...[called, ...texts].map((line, place) => `${line.map(escapes.LaTeX).join(" & ")} \\\\${place ? "" : "\n\\midrule"}`),
      "\\bottomrule", "\\end{tabular}}"].join("\n") + "\n",
    BibTeX: ({ names, lines, hidden }) => {
      const known = JSON.parse(find("#bib").textContent);
      const seen = ["", ...names, ...lines.map((line) => line[0].dataset.label)].flatMap((label) => known[label] || []);
      return [`% ${hidden}\n`, ...[...new Set(seen)].sort()].join("\n");
    },
  };
  const ENDINGS = { CSV: "csv", JSON: "json", Markdown: "md", LaTeX: "tex", BibTeX: "bib" };

  tools.addEventListener("click", (event) => {
    const form = event.target.dataset.export;
    if (!form) return;
    const address = URL.createObjectURL(new Blob([exports[form](inView())], { type: "text/plain" }));
    make("a", { href: address, download: `${table.dataset.slug}${oracle ? "-best-epoch" : ""}.${ENDINGS[form]}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  });

  const copy = async (text, button) => {
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => { button.textContent = before; }, 1500);
  };

  // Controls

  for (const link of all(".switch a")) {
    link.addEventListener("click", () => { // another setting, seen the same way
      const view = state();
      view.delete("cell");
      link.hash = view;
    });
  }

  const unchecked = (name) => all(`[data-${name}]`, tools).filter((box) => !box.checked).map((box) => box.dataset[name]).join(",");
  tools.addEventListener("change", (event) => {
    if (event.target.id === "heat") change({ plain: event.target.checked ? "" : "1" });
    else if (event.target.id === "others") change({ own: event.target.checked ? "" : "1" });
    else if (event.target.id === "best") change({ best: event.target.checked ? "1" : "" });
    else if (event.target.dataset.tag) change({ off: unchecked("tag") });
    else if (event.target.dataset.column) change({ hide: unchecked("column") });
  });
  find("#search").addEventListener("input", (event) => change({ q: event.target.value }));
  find("#copy").addEventListener("click", (event) => copy(location.href, event.target));
  tools.addEventListener("reset", (event) => {
    event.preventDefault();
    change({ q: "", off: "", hide: "", sort: "", plain: "", best: "", own: "", cell: "" });
  });
  tools.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("click", (event) => {
    for (const menu of all(".menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") for (const menu of all(".menu[open]")) menu.open = false;
  });
  sortable(table, (key, direction) => change({ sort: `${key}:${direction > 0 ? "up" : "down"}` }));
  addEventListener("hashchange", () => (location.hash.includes("=") || location.hash.length < 2) && show());
  const box = tools.parentElement;
  box.hidden = false;
  box.open = !matchMedia("(max-width: 40rem)").matches || Boolean(location.hash); // a phone shows the table first
  if (location.hash.includes("=")) show();
})();

// compare.html#a=em&b=rem: two attacks or two defenses side by side, from the numbers that the page carries
(() => {
  const form = document.querySelector("#compare");
  if (!form) return;
  const make = (name, fields = {}, ...inside) => {
    const node = Object.assign(document.createElement(name), fields);
    node.append(...inside);
    return node;
  };
  const data = JSON.parse(document.querySelector("#methods").textContent); // axis -> methods
  const axes = Object.keys(data);
  const choices = form.elements;
  const method = (axis, key) => data[axis].find((one) => one.key === key);

  // what the address says: two methods of one axis, or the one that it names

  const view = () => {
    const fragment = new URLSearchParams(location.hash.slice(1));
    const [a, b] = [fragment.get("a"), fragment.get("b")];
    const sides = axes.filter((one) => !axes.includes(fragment.get("of")) || one === fragment.get("of"));
    const axis = sides.find((one) => method(one, a) && method(one, b)) ?? sides.find((one) => method(one, a)) ?? sides[0];
    return { axis, left: method(axis, a), right: method(axis, b) };
  };

  const option = (axis, chosen) => (one) => make("option",
    { value: `${axis} ${one.key}`, selected: one === chosen, title: one.name }, `${one.label} (${one.spec})`);
  const prompt = () => make("option", { value: "" }, "choose");
  const offer = ({ axis, left, right }) => {
    const groups = axes.map((other) => make("optgroup", { label: other }, ...data[other].map(option(other, left))));
    choices.a.replaceChildren(prompt(), ...groups);
    choices.b.replaceChildren(prompt(), ...data[axis].filter((one) => one !== left).map(option(axis, right)));
  };

  // the table: a row for each method of the other axis that either has a number with

  const NOTHING = ["", "", "", "", null, "", "", null];
  const rows = (left, right) => {
    const seconds = new Map(right.against.map((pair) => [pair[0], pair]));
    const firsts = new Set(left.against.map((pair) => pair[0]));
    const alone = right.against.filter((pair) => !firsts.has(pair[0]));
    return [...left.against.map((pair) => [pair, seconds.get(pair[0]) ?? NOTHING]), ...alone.map((pair) => [NOTHING, pair])];
  };
  const cell = (text, range) => make("td", { className: "num" }, text || "–", ...(range ? [make("small", {}, range)] : []));
  const line = ([left, right]) => {
    const [label, href] = left[0] ? left : right;
    const both = left[4] !== null && right[4] !== null;
    const apart = both ? `${left[4] < right[4] ? "−" : "+"}${Math.abs(left[4] - right[4]).toFixed(1)}` : "";
    const head = make("th", { scope: "row" }, make("a", { href }, label));
    return make("tr", {}, head, cell(left[2], left[3]), cell(right[2], right[3]), cell(apart), cell(left[5], left[6]), cell(right[5], right[6]));
  };
  const table = (axis, left, right) => {
    const texts = [axis === "attacks" ? "defense" : "attack", left.label, right.label, "difference", `${left.label}, ours`, `${right.label}, ours`];
    const heads = texts.map((text, place) => make("th", { scope: "col", className: place ? "num" : "" }, text));
    const body = make("tbody", {}, ...rows(left, right).map(line));
    const made = make("table", { className: "sources" }, make("thead", {}, make("tr", {}, ...heads)), body);
    const frame = make("div", { className: "scroll", tabIndex: 0 }, made);
    frame.setAttribute("role", "region");
    frame.setAttribute("aria-label", `${left.label} and ${right.label}`);
    return frame;
  };

  const summary = (axis, left, right) => {
    const pairs = rows(left, right).filter(([one, other]) => one[4] !== null && other[4] !== null);
    const [side, sign] = axis === "attacks" ? ["lower", 1] : ["higher", -1];
    const first = pairs.filter(([one, other]) => sign * (one[4] - other[4]) < 0).length;
    const second = pairs.filter(([one, other]) => sign * (one[4] - other[4]) > 0).length;
    return `Papers print both in ${pairs.length} rows: test accuracy is ${side} with ${left.label} in ${first}, with ${right.label} in ${second}.`;
  };

  const show = () => {
    const { axis, left, right } = view();
    offer({ axis, left, right });
    const words = document.querySelector("#compared-words");
    const place = document.querySelector("#compared");
    if (!left || !right || left === right) {
      words.textContent = "Choose two methods.";
      place.replaceChildren();
      return;
    }
    const pages = [left, right].map((one) => make("a", { href: one.page }, `${one.name} (${one.spec})`));
    words.textContent = summary(axis, left, right);
    place.replaceChildren(make("p", {}, pages[0], ", ", pages[1]), table(axis, left, right));
  };

  form.addEventListener("change", () => {
    const [axis, a] = choices.a.value.split(" ");
    const [other, b] = choices.b.value.split(" ");
    const next = new URLSearchParams({ a: a ?? "" });
    if (axes.find((one) => method(one, a)) !== axis) next.set("of", axis); // d-vae is an attack and a defense
    if (b && axis === other && a !== b) next.set("b", b);
    location.hash = next;
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", show);
  document.querySelector("#needs-script").hidden = true;
  form.hidden = false;
  show();
})();

// The start page: what is in view as a file, with units, and a line that says what is not in view
(() => {
  const all = (selector, root) => [...root.querySelectorAll(selector)];
  const make = (name, fields = {}, ...inside) => {
    const node = Object.assign(document.createElement(name), fields);
    node.append(...inside);
    return node;
  };
  const visible = (node) => node.getClientRects().length > 0;
  const plain = (text) => text.trim().replace(/\s+/g, " ");
  const label = (head) => head.dataset.label || plain(head.firstChild.textContent);
  const value = (cell) => cell.dataset.v ?? cell.dataset.label ?? "";
  const UNITS = [[/^rank/, "rank"], [/^(crafting|defending|cost)/, "plain trainings"], [/^PSNR/, "dB"], [/^SSIM/, "1"], [/^largest change/, "levels of 255"], [/^/, "percent"]];
  const unit = (head) => UNITS.find(([name]) => name.test(label(head)))[1];
  const sources = (cell) => all(".who a, small:not(.range) > a", cell).map((link) => plain(link.textContent));

  const wrong = (cells) => [...new Set(cells.flatMap((cell) => all(".errata li", cell)).map((one) => plain(one.textContent)))];

  const look = (table) => {
    const heads = all("thead th", table).map((head, place) => ({ head, place })).filter(({ head }) => !head.querySelector("svg"));
    const columns = heads.filter(({ head, place }) => visible(head) && !table.tBodies[0].rows[0]?.cells[place]?.querySelector("svg"));
    const rows = [...table.tBodies[0].rows];
    const shown = rows.filter(visible);
    const gone = heads.filter(({ head }) => !visible(head)).map(({ head }) => label(head));
    const parts = [
      shown.length < rows.length && `${shown.length} of ${rows.length} rows`,
      gone.length && `hidden columns ${gone.join(", ")}`,
    ].filter(Boolean);
    return { columns, shown, hidden: `View: ${parts.join("; ") || "all rows and columns"}`, caption: plain(table.caption.textContent) };
  };
  const quoted = (text) => `"${(/^[=+\-@\t\r]/.test(text) && isNaN(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replace(/[\\`*_[\]|~$#]/g, "\\$&");
  const named = ({ head, place }) => `${label(head)}${isNumber(head, place) ? ` (${unit(head)})` : ""}`;
  const isNumber = (head, place) => head.closest("table").tBodies[0].querySelector(`tr > :nth-child(${place + 1})[data-v]`) !== null;
  const writers = {
    CSV: ({ columns, shown, hidden }) => [[...columns.map(named), "errata", "view"],
      ...shown.map((row) => [...columns.map(({ place }) => value(row.cells[place])), wrong(columns.map(({ place }) => row.cells[place])).join("; "), hidden])]
      .map((line) => line.map(quoted).join(",")).join("\n") + "\n",
    JSON: ({ columns, shown, hidden, caption }) => JSON.stringify({ caption, view: hidden, rows: shown.map((row) => columns.map(({ head, place }) => {
      const cell = row.cells[place];
      return cell.dataset.v === undefined ? { column: label(head), text: value(cell) }
        : { column: label(head), value: Number(cell.dataset.v), unit: unit(head), sources: sources(cell), errata: wrong([cell]) };
    })) }, null, 1) + "\n",
    Markdown: ({ columns, shown, hidden, caption }) => [columns.map(named), columns.map((_, place) => (place ? "---:" : "---")),
      ...shown.map((row) => columns.map(({ place }) => value(row.cells[place]) || "–"))]
      .map((line, place) => `| ${line.map((text) => (place === 1 ? text : escaped(text))).join(" | ")} |`).join("\n")
      + `\n\n${[caption, ...wrong(shown.flatMap((row) => columns.map(({ place }) => row.cells[place]))), hidden].map(escaped).join("\n\n")}\n`,
  };
  const ENDINGS = { CSV: "csv", JSON: "json", Markdown: "md" };
  for (const table of all("table.standing", document)) {
    const section = table.closest("section");
    const buttons = Object.entries(writers).map(([form, write]) => {
      const button = make("button", { type: "button" }, form);
      button.dataset.export = form;
      button.addEventListener("click", () => {
        const address = URL.createObjectURL(new Blob([write(look(table))], { type: "text/plain" }));
        make("a", { href: address, download: `${section.id}.${ENDINGS[form]}` }).click();
        setTimeout(() => URL.revokeObjectURL(address), 10000);
      });
      return button;
    });
    const menu = make("details", { className: "menu" }, make("summary", {}, "Export this view"), make("div", {}, ...buttons));
    const tools = section.querySelector(".tools"); // behind the table of a start page stands the box that unfolds it
    if (tools) tools.append(menu); else table.parentElement.after(menu);
  }
})();
