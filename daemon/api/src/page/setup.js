// The first administrator: the token comes in the link's fragment, which no
// browser sends to a server, and leaves the address bar before anything else.
"use strict";

const token = location.hash.replace(/^#(token=)?/, "");
history.replaceState(null, "", location.pathname);

const at = (id) => document.getElementById(id);
const fields = ["user", "password", "again"];

// Words into the page, never markup.
function say(text) {
  at("say").textContent = text;
}

function wrong(field, text) {
  const place = at(field + "-wrong");
  place.textContent = text;
  place.hidden = text === "";
  if (text === "") at(field).removeAttribute("aria-invalid");
  else at(field).setAttribute("aria-invalid", "true");
}

// The first field that is wrong gets the focus: a screen reader reads why.
function focusFirstWrong() {
  const first = fields.find((field) => at(field).hasAttribute("aria-invalid"));
  if (first) at(first).focus();
}

function check() {
  fields.forEach((field) => wrong(field, ""));
  if (at("user").value.trim() === "") wrong("user", "Choose a user name.");
  if (at("password").value === "") wrong("password", "Choose a password.");
  else if (at("again").value !== at("password").value)
    wrong("again", "This is not the same password. Type it once more.");
  return !fields.some((field) => at(field).hasAttribute("aria-invalid"));
}

// What the daemon says of a request that failed, beside the fields it is about.
function showProblem(problem) {
  const others = [];
  (problem.errors || []).forEach((mistake) => {
    const field = (mistake.pointer || "").slice(1);
    if (field === "user" || field === "password") wrong(field, sentence(mistake.message));
    else others.push(sentence(mistake.message));
  });
  const about = fields.some((field) => at(field).hasAttribute("aria-invalid"));
  if (others.length > 0) say(others.join(" "));
  else say(about ? "Something is not right yet; see above." : sentence(problem.detail || problem.title));
  focusFirstWrong();
}

function sentence(text) {
  const full = String(text);
  return full.charAt(0).toUpperCase() + full.slice(1) + (/[.!?]$/.test(full) ? "" : ".");
}

function finish(user) {
  at("name").textContent = user;
  at("command").textContent = "sotp login " + location.origin + " --user " + user;
  at("ask").hidden = true;
  say("The administrator is made.");
  at("done").hidden = false;
  at("done").focus();
}

async function send() {
  const asked = { token: token, user: at("user").value.trim(), password: at("password").value };
  const answer = await fetch("/api/v1/setup", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(asked),
    credentials: "omit",
  });
  const said = await answer.json();
  if (answer.ok) finish(said.name);
  else showProblem(said);
}

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  say("");
  if (!check()) return focusFirstWrong();
  at("send").disabled = true;
  say("One moment …");
  try {
    await send();
  } catch {
    say("The appliance does not answer. Check the connection and try again; the link is still good.");
  }
  at("send").disabled = false;
});

at("show").addEventListener("change", () => {
  const kind = at("show").checked ? "text" : "password";
  at("password").type = kind;
  at("again").type = kind;
});

if (token === "") {
  at("form").hidden = true;
  say("This page is opened with a link. Run “sudo sotp setup” on the server; it prints one.");
} else {
  at("user").focus();
}
