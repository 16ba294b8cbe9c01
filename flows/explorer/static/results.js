/** The last search, kept for this tab: the page of a media goes on to the next result from it. */

const KEY = "reelflow.results";

export const remember = (back, addresses) => {
  try { sessionStorage.setItem(KEY, JSON.stringify({ back, addresses })); } catch { /* no storage: no next result */ }
};

/** {back, addresses, at}: `at` is the position of an address among the results. Null where it is not one of them. */
export const recall = (address) => {
  try {
    const { back, addresses } = JSON.parse(sessionStorage.getItem(KEY));
    const at = addresses.indexOf(address);
    return at < 0 || !String(back).startsWith("/") ? null : { back, addresses, at };
  } catch {
    return null;
  }
};
