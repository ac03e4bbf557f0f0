// The list of parts: radio buttons, so that Tab and the arrow keys work as everywhere.

/**
 * @param {HTMLElement} list filled with one radio button for each part, behind one for all.
 * @param {(selected: number | null) => void} changed
 * @returns {{
 *   fill: (parts: { description: string, color: number[] }[]) => void,
 *   select: (part: number | null) => void,
 *   show: (shares: number[]) => void,
 * }} `show` takes the share of each part, 0..1.
 */
export function createLegend(list, changed) {
  const all = createItem("All parts", null, "");
  let items = [];
  list.addEventListener("change", ({ target }) => changed(target.value === "" ? null : Number(target.value)));
  list.addEventListener("keydown", ({ key }) => {
    if (key === "Escape") select(null);
  });

  function fill(parts) {
    items = parts.map(({ description, color }, part) => createItem(description, color, part));
    all.input.checked = true;
    list.replaceChildren(all.label, ...items.map(({ label }) => label));
  }

  function select(part) {
    const { input } = part === null ? all : items[part];
    input.checked = true;
    changed(part);
  }

  function show(shares) {
    items.forEach(({ label, share }, part) => {
      label.classList.toggle("absent", shares[part] === 0);
      share.textContent = percent(shares[part]);
    });
  }

  return { fill, select, show };
}

function createItem(text, color, value) {
  const label = document.createElement("label");
  label.className = "part";
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "part", value });
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  if (color) swatch.style.backgroundColor = `rgb(${color})`;
  else swatch.classList.add("all");
  const name = Object.assign(document.createElement("span"), { className: "name", textContent: text });
  const share = Object.assign(document.createElement("span"), { className: "share" });
  label.append(input, swatch, name, share);
  return { label, input, share };
}

/** `0.1234` -> `"12 %"`, `0.0123` -> `"1.2 %"`; what is there is never `"0 %"`. */
export function percent(share) {
  if (share === 0) return "–";
  if (share < 0.0005) return "<0.1 %";
  return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
}
