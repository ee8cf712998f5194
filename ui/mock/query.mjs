// Enough of the query language for a mock: words, "phrases", /regex/, key:value with comparisons,
// -exclusion. AND is understood, OR and parentheses are not.
const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'];
const UNITS = { us: 1, ms: 1e3, s: 1e6, m: 60e6 };

export function matcher(text) {
  const quotes = (text.match(/"/g) ?? []).length;
  if (quotes % 2 === 1) throw mistake(`a quote is not closed, at ${text.lastIndexOf('"') + 1}`);
  const terms = [];
  for (const match of text.matchAll(/(-?)(?:\/((?:[^/\\]|\\.)+)\/|([\w.]+)(?::|(?=[<>]=?))([<>]=?)?("[^"]*"|[^\s()]+)|"([^"]*)"|([^\s()]+))/g)) {
    const [, minus, regex, key, operator, value, phrase, word] = match;
    if (word === 'AND') continue;
    const test = regex !== undefined ? byRegex(regex) : key !== undefined ? byKey(key, operator, value.replace(/^"|"$/g, '')) : byText(phrase ?? word);
    terms.push(minus ? (own) => !test(own) : test);
  }
  return (own) => terms.every((test) => test(own));
}

export function mistake(detail) {
  return Object.assign(new Error(detail), { status: 400 });
}

const textOf = (own) => own.message ?? `${own.root_service} ${own.root_name}`;

function byText(word) {
  const wanted = word.toLowerCase();
  return (own) => textOf(own).toLowerCase().includes(wanted);
}

function byRegex(source) {
  try {
    const regex = new RegExp(source);
    return (own) => regex.test(textOf(own));
  } catch {
    throw mistake(`the regular expression cannot be read, at 1`);
  }
}

function byKey(key, operator, value) {
  if (key === 'level' && operator) return (own) => own.level !== null && compare(LEVELS.indexOf(own.level), operator, LEVELS.indexOf(value));
  if (key === 'duration') {
    const [, digits, unit] = /^([\d.]+)(us|ms|s|m)?$/.exec(value) ?? [];
    if (digits === undefined) throw mistake(`'${value}' is no duration; write 100ms`);
    const us = Number(digits) * UNITS[unit ?? 'ms'];
    return (own) => compare(own.duration_us ?? (own.attributes?.duration_ms ?? 0) * 1000, operator ?? '>=', us);
  }
  if (key === 'status' && value === 'error') return (own) => (own.errors ?? 0) > 0 || own.level === 'error';
  if (key === 'service') return (own) => own.service === value || own.services?.includes(value) === true;
  return (own) => {
    const found = own[key] ?? own.attributes?.[key];
    return operator ? compare(Number(found), operator, Number(value)) : String(found) === value;
  };
}

function compare(a, operator, b) {
  return { '>': a > b, '>=': a >= b, '<': a < b, '<=': a <= b }[operator];
}
