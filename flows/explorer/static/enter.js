"use strict";
// The cookie is set: go on without the token in the address, the history and the next request.
(() => {
  const address = new URL(location.href);
  address.searchParams.delete("token");
  location.replace(address);
})();
