// A one-time link that a person opened logs in by itself; what fetches or prerenders pages ahead does not use it up.
const send = () => document.getElementById("link").submit();
if (document.prerendering) document.addEventListener("prerenderingchange", send, { once: true });
else send();
