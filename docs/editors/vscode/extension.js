// Diagnostics, quick fixes and formatting for .attn files ask the command `attnc`: nothing is decided here.
"use strict";

const path = require("path");
const { execFile } = require("child_process");
const vscode = require("vscode");

const { candidates } = require("./completion");
const words = require("./words.json");

const LANGUAGE = "attn";
const LIMITS = { timeout: 30000, maxBuffer: 16 * 1024 * 1024, windowsHide: true };

let problems; // the collection of what `attnc check` said, by the file that was checked
const reported = new Map(); // for each checked document the files that its check has problems in
const fixes = new WeakMap(); // for each problem the edits that put it right
const latest = new Map(); // for each document the number of its last check: an older answer comes too late
let checks = 0;
let complained = false;

function activate(context) {
  problems = vscode.languages.createDiagnosticCollection(LANGUAGE);
  context.subscriptions.push(
    problems,
    vscode.workspace.onDidOpenTextDocument(check),
    vscode.workspace.onDidSaveTextDocument(check),
    vscode.workspace.onDidCloseTextDocument(forget),
    vscode.workspace.onDidGrantWorkspaceTrust(checkAll),
    vscode.languages.registerDocumentFormattingEditProvider(LANGUAGE, { provideDocumentFormattingEdits: format }),
    vscode.languages.registerCompletionItemProvider(LANGUAGE, { provideCompletionItems: complete }, ":", "[", "(", ","),
    vscode.languages.registerCodeActionsProvider(
      LANGUAGE,
      { provideCodeActions: mend },
      { providedCodeActionKinds: [vscode.CodeActionKind.QuickFix] },
    ),
  );
  checkAll();
}

function deactivate() {}

function checkAll() {
  vscode.workspace.textDocuments.forEach(check);
}

// Runs attnc with the document's folder as its own. `done(error, stdout, stderr)`; the error has the exit code.
function attnc(document, options, done) {
  const executable = vscode.workspace.getConfiguration(LANGUAGE).get("executable") || "attnc";
  const settings = { ...LIMITS };
  if (document.uri.scheme === "file") {
    settings.cwd = path.dirname(document.uri.fsPath);
  }
  return execFile(executable, options, settings, (error, stdout, stderr) => {
    if (error && typeof error.code === "string" && !complained) {
      complained = true;
      vscode.window.showErrorMessage(
        `attn: ${executable} cannot be run (${error.code}). Install attnc, or set attn.executable to its path.`,
      );
    }
    done(error, stdout, stderr);
  });
}

function check(document) {
  const wanted = vscode.workspace.getConfiguration(LANGUAGE).get("check");
  if (document.languageId !== LANGUAGE || document.uri.scheme !== "file" || !vscode.workspace.isTrusted || !wanted) {
    return;
  }
  const key = document.uri.toString();
  const number = ++checks;
  latest.set(key, number);
  attnc(document, ["check", "--format", "json", document.uri.fsPath], (error, stdout) => {
    if (latest.get(key) !== number) {
      return;
    }
    let faults;
    try {
      faults = JSON.parse(stdout);
    } catch {
      return; // attnc did not run, or broke: what was known before stays
    }
    show(document, faults);
  });
}

function forget(document) {
  const key = document.uri.toString();
  latest.delete(key);
  for (const uri of reported.get(key) || []) {
    problems.delete(uri);
  }
  reported.delete(key);
}

function show(document, faults) {
  const key = document.uri.toString();
  const found = new Map([[key, { uri: document.uri, items: [] }]]);
  for (const fault of faults) {
    const uri = place(document, fault.file);
    const group = found.get(uri.toString()) || { uri, items: [] };
    found.set(uri.toString(), group);
    group.items.push(described(document, uri, fault));
  }
  for (const uri of reported.get(key) || []) {
    problems.delete(uri);
  }
  for (const { uri, items } of found.values()) {
    problems.set(uri, items);
  }
  reported.set(
    key,
    [...found.values()].map((group) => group.uri),
  );
}

// The file that a fault names: the document, or a module that it imports, by its path from the document's folder.
function place(document, file) {
  if (!file || file === document.uri.fsPath) {
    return document.uri;
  }
  return vscode.Uri.file(path.resolve(path.dirname(document.uri.fsPath), file));
}

function described(document, uri, fault) {
  const texts = [fault.message];
  const [primary] = fault.labels.filter((label) => label.primary);
  if (primary && primary.text) {
    texts.push(primary.text);
  }
  texts.push(...fault.notes.map((note) => `note: ${note}`), ...fault.helps.map((help) => `help: ${help}`));
  const problem = new vscode.Diagnostic(
    range(document, uri, fault),
    texts.join("\n"),
    vscode.DiagnosticSeverity.Error,
  );
  problem.source = "attnc";
  problem.code = fault.slug;
  problem.relatedInformation = fault.labels
    .filter((label) => !label.primary)
    .map((label) => {
      const there = place(document, label.file);
      const location = new vscode.Location(there, range(document, there, label));
      return new vscode.DiagnosticRelatedInformation(location, label.text || "related");
    });
  if (fault.edits.length) {
    fixes.set(problem, { title: fault.helps[0], edits: fault.edits });
  }
  return problem;
}

// The quick fixes of the problems at the cursor: what the first help of each says, done.
function mend(document, _range, context) {
  return context.diagnostics
    .filter((problem) => fixes.has(problem))
    .map((problem) => {
      const { title, edits } = fixes.get(problem);
      const action = new vscode.CodeAction(title, vscode.CodeActionKind.QuickFix);
      action.diagnostics = [problem];
      action.isPreferred = true;
      action.edit = new vscode.WorkspaceEdit();
      for (const edit of edits) {
        const uri = place(document, edit.file);
        action.edit.replace(uri, range(document, uri, edit), edit.text);
      }
      return action;
    });
}

// The words that may stand at the cursor.
function complete(document, position) {
  const before = document.getText(new vscode.Range(new vscode.Position(0, 0), position));
  return candidates(before, document.getText(), words).map((word) => {
    const item = new vscode.CompletionItem(word.label.replace(/ = $/, ""));
    item.insertText = word.label;
    item.detail = word.detail;
    return item;
  });
}

function range(document, uri, span) {
  if (span.line === null) {
    return new vscode.Range(0, 0, 0, 0);
  }
  const inDocument = uri.toString() === document.uri.toString();
  return new vscode.Range(
    span.line - 1,
    units(inDocument ? document : null, span.line - 1, span.column - 1),
    span.end_line - 1,
    units(inDocument ? document : null, span.end_line - 1, span.end_column - 1),
  );
}

// attnc counts characters, the editor counts UTF-16 units: they differ behind a character like an emoji.
function units(document, line, characters) {
  if (!document || line >= document.lineCount) {
    return characters;
  }
  return Array.from(document.lineAt(line).text).slice(0, characters).join("").length;
}

// The whole text laid out by `attnc fmt -`, or no edit where it has faults.
function format(document, _options, token) {
  if (!vscode.workspace.isTrusted) {
    return [];
  }
  const text = document.getText();
  return new Promise((resolve) => {
    const child = attnc(document, ["fmt", "-"], (error, stdout) => {
      if (error || token.isCancellationRequested || stdout === text.replace(/\r\n/g, "\n")) {
        resolve([]);
        return;
      }
      const all = new vscode.Range(document.positionAt(0), document.positionAt(text.length));
      resolve([vscode.TextEdit.replace(all, stdout)]);
    });
    token.onCancellationRequested(() => child.kill());
    if (child.stdin) {
      child.stdin.on("error", () => {}); // it ended before it read everything; its exit code says why
      child.stdin.end(text);
    }
  });
}

module.exports = { activate, deactivate };
