const SEVERITIES = { error: t("error"), warning: t("warning"), note: t("note") };
const SIGNS = { error: "✗", warning: "⚠", note: "·" };

const finding = (data) => {
  const node = h("section", "finding " + data.severity);
  const head = h("p", "what");
  head.append(h("span", "sign", SIGNS[data.severity]), h("b", "", SEVERITIES[data.severity]), h("span", "", data.what));
  for (const row of data.rows.slice(0, 12)) {
    const chip = h("button", "chip-row", t("row {row}", { row }));
    chip.type = "button";
    chip.onclick = () => trigger("goto", { row });
    head.append(chip);
  }
  const more = data.count - Math.min(12, data.rows.length);
  if (more > 0) head.append(h("span", "more", t("and {count} more", { count: more.toLocaleString("en") })));
  if (data.count) {
    const only = h("button", "chip-row only", t("show only these"));
    only.type = "button";
    only.onclick = () => trigger("only", { check: data.check });
    head.append(only);
  }
  node.append(head, h("p", "why", `${data.why} → ${data.remedy}`));
  return node;
};

const draw = () => {
  const data = value();
  const place = root();
  if (!data || !place) return;
  const parts = [];
  if (data.message) parts.push(h("p", data.findings.length ? "note" : "note clean", data.message));
  parts.push(...data.findings.map(finding));
  place.replaceChildren(...parts);
};
watch("value", draw);
draw();
