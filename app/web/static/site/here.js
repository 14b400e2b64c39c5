// Writes into each command the URL of this server as the browser reached it. The server does not know it where a proxy in
// front removes a prefix or changes the host; without JavaScript the command has the URL that the server knows.
"use strict";

// As `shlex.quote` does in cards.py.
const quoted = (word) => (/[^\w@%+=:,./-]/.test(word) ? `'${word.replaceAll("'", `'"'"'`)}'` : word);

for (const command of document.querySelectorAll("[data-url]")) {
  const url = new URL(command.dataset.url, location.href).href;
  command.textContent = command.textContent.replace(/^curl \S+/, () => `curl ${quoted(url)}`);
}
