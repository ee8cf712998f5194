// The console of a running market, in this order: a fresh one breaks and is understood; everything
// that can be done is done; every page is looked at, with all that has come together by then.
import './cause.mjs';
import './actions.mjs';
import './pages.mjs';
