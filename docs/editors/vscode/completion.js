// What may stand at a place of a text, told from the text before it. It knows words, not meanings: `attnc check` judges.
"use strict";

const DECLARED = /^[ \t]*(?:pattern|attention|model|const)[ \t]+([A-Za-z_]\w*)[ \t]*(\([^)]*\))?/gm;
const STARTER = /^[ \t]*(const|pattern|attention|model|test|from)\b/gm;

// Candidates `{ label, detail }`, each label once, for the word at the end of `before`, the text of a file up to the
// cursor. `text` is the whole file, `words` is words.json.
function candidates(before, text, words) {
  const found = new Map();
  for (const one of every(before, text, words)) {
    if (!found.has(one.label)) {
      found.set(one.label, one);
    }
  }
  return [...found.values()];
}

function every(before, text, words) {
  const line = before.slice(before.lastIndexOf("\n") + 1).replace(/\w*$/, "");
  if (/#/.test(line.replace(/"""/g, "")) || insidePicture(before)) {
    return [];
  }
  const declaration = lastDeclaration(before);
  const head = declaration.replace(/\w*$/, "");
  if (/^\s*$/.test(line) && depth(head) === 0) {
    return [...plain(words.declarations, "declaration"), ...(declaration ? values(text, words, "") : [])];
  }
  if (/[A-Za-z_]\w*\s*:\s*$/.test(line)) {
    return described(words.types);
  }
  if (/:\s*\w+\[[^\]]*$/.test(line)) {
    return described(words.dimensions);
  }
  const inside = /^(\w+)/.exec(declaration);
  const kind = inside ? inside[1] : "";
  if (kind === "test" && depth(head) === 0 && /\bat\b[^{]*[,\s]$/.test(head) && !/=\s*$/.test(head)) {
    return plain(words.settings, "setting of a test");
  }
  if (kind === "test" && depth(head) > 0 && /(?:^|\s|{)$/.test(line) && !/(?:==|within|contains|equals|disjoint)\s*$/.test(head)) {
    return described(words.checks);
  }
  if ((kind === "attention" || kind === "model") && depth(head) === 1 && /(?:^|\s|{)$/.test(line) && !/=\s*$/.test(head)) {
    return [...plain(words.fields[kind], `of ${kind === "model" ? "a model" : "an attention"}`), ...values(text, words, declaration)];
  }
  const call = /([A-Za-z_]\w*)\(([^()]*)$/.exec(head);
  return [...(call ? argumentsOf(call[1], text, words) : []), ...values(text, words, declaration)];
}

// The text from the last word that starts a declaration, or nothing.
function lastDeclaration(before) {
  const starts = [...before.matchAll(STARTER)];
  return starts.length ? before.slice(starts[starts.length - 1].index).trimStart() : "";
}

function insidePicture(before) {
  return before.split('"""').length % 2 === 0;
}

// How many curly brackets of a declaration are open.
function depth(text) {
  return text.split("{").length - text.split("}").length;
}

function plain(list, detail) {
  return list.map((label) => ({ label, detail }));
}

function described(table) {
  return Object.entries(table).map(([label, detail]) => ({ label, detail }));
}

// What an expression is made of: positions, functions, words, the prelude, and the names of the file and of the
// declaration that the cursor is in.
function values(text, words, declaration) {
  const found = [...text.matchAll(DECLARED)].map(([, label, taken]) => ({ label, detail: label + (taken || "") }));
  const own = parametersIn(declaration).map(([label, type]) => ({ label, detail: `${label}: ${type}` }));
  const taken = new Set([...found, ...own].map((one) => one.label));
  return [
    ...own,
    ...found,
    ...described(words.prelude).filter((one) => !taken.has(one.label)),
    ...described(words.positions),
    ...described(words.functions),
    ...plain(words.operators, "word"),
  ];
}

// The parameters of what is applied, as keywords.
function argumentsOf(name, text, words) {
  const found = [...text.matchAll(DECLARED)].find((match) => match[1] === name);
  const signature = found ? found[0] : words.prelude[name] || "";
  return parametersIn(signature).map(([label, type]) => ({ label: `${label} = `, detail: `${label}: ${type}` }));
}

function parametersIn(declaration) {
  const list = /^[^=({]*\(([^()]*)\)?/.exec(declaration);
  return list ? [...list[1].matchAll(/([A-Za-z_]\w*)\s*:\s*(\w+(?:\[[^\]]*\])?)/g)].map((one) => [one[1], one[2]]) : [];
}

module.exports = { candidates };
