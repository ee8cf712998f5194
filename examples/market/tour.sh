#!/usr/bin/env bash
# A walk through the shop: order something, break the bank, find out why from a trace, let a service
# fail, freeze and die while events wait for it, repair a dead letter, deploy a change and take it
# back. Every step says what it does and checks that it
# happened, so this is a test as well: it ends with 0 only if all of it was true.
#
#   atoll up examples/market          # in one terminal
#   examples/market/tour.sh           # in another; --no-pause doesn't wait for Enter
#
# EDGE   where the shop is      (default http://127.0.0.1:8080)
# ATOLL  the program            (default atoll)
set -euo pipefail

dir=$(cd "$(dirname "$0")" && pwd)
edge=${EDGE:-http://127.0.0.1:8080}
tmp=$(mktemp -d)
watcher=
frozen=
deployed=no
began=$(date -u +%Y-%m-%dT%H:%M:%SZ)
pause=no
[ -t 0 ] && pause=yes
[ "${1:-}" = --no-pause ] && pause=no

atoll() { "${ATOLL:-atoll}" -C "$dir" "$@"; }

cleanup() {
    # Whatever happened: leave the shop in order.
    [ -z "$frozen" ] || kill -CONT "$frozen" 2>"$tmp/ignored" || true
    for faults in /faults /faults/points; do
        curl -s -o "$tmp/ignored" --max-time 5 -X PUT -d '{}' "$edge$faults" || true
    done
    stop_watching
    [ "$deployed" = no ] || atoll rollback catalog >"$tmp/ignored" 2>&1 || true
    rm -rf "$tmp"
}
# It finishes its request: killed, it would leave a curl behind that still writes its answer down.
stop_watching() {
    : >"$tmp/seen-enough"
    [ -z "$watcher" ] || wait "$watcher" || true
    watcher=
}
trap cleanup EXIT

fail() {
    printf '\nThe tour ends here: %s\n' "$*" >&2
    exit 1
}

number=0
step() {
    number=$((number + 1))
    printf '\n━━ %d. %s\n' "$number" "$1"
    if [ "$pause" = yes ]; then
        read -r -p '   (Enter) ' || true
    fi
}

say() { printf '   %s\n' "$*"; }

# request METHOD PATH [curl options]: sets status, trace and revision; the body is for `json`.
request() {
    local method=$1 path=$2
    shift 2
    : >"$tmp/head"
    : >"$tmp/body"
    status=$(curl -sS --max-time 20 -X "$method" -D "$tmp/head" -o "$tmp/body" -w '%{http_code}' \
        "$@" "$edge$path" 2>"$tmp/curl") || status="none ($(cat "$tmp/curl"))"
    trace=$(header x-trace-id)
    revision=$(header x-revision)
}

header() { tr -d '\r' <"$tmp/head" | awk -F': *' -v name="$1" 'tolower($1) == name { print $2; exit }'; }

# json EXPRESSION: a Python expression about the last answer's body, `d`.
json() { python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$tmp/body" "$1"; }

expect() { # expect STATUS WHAT
    [ "$status" = "$1" ] || fail "$2: expected $1, got $status: $(head -c 500 "$tmp/body")"
}

# eventually SECONDS WHAT COMMAND...: tries until the command is true.
eventually() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $deadline ] || fail "waited in vain until $what"
        sleep 0.2
    done
}

answers() { request GET "$1" && [ "$status" = 200 ]; }

new_key() { python3 -c 'import uuid; print(uuid.uuid4())'; }

order() { # order PRODUCT QUANTITY
    request POST /orders -H "Authorization: Bearer $token" -H "Idempotency-Key: $(new_key)" \
        -d "{\"lines\": [{\"product\": \"$1\", \"quantity\": $2}], \"token\": \"tok_visa\"}"
}

order_succeeds() { order "$@" && [ "$status" = 201 ]; }

is_paid() { # is_paid ORDER
    request GET "/orders/$1" -H "Authorization: Bearer $token" &&
        [ "$status" = 200 ] && [ "$(json 'd["state"]')" = paid ]
}

# order_is_placed: after an order, until it is paid. Sets id and, as they will be, the points: after.
order_is_placed() {
    id=$(json 'd["id"]')
    after=$((after + $(json 'd["points"]')))
    eventually 30 "order $id is paid" is_paid "$id"
}

points() { answers "/points/$user" && json 'd["points"]'; }
has_points() { [ "$(points)" = "$1" ]; }

# reader WHAT: of the way from orders.placed to points, as `atoll events lag` knows it.
reader() {
    atoll events lag --json >"$tmp/body" &&
        json "next(r for r in d if (r['name'], r['topic']) == ('points', 'orders.placed'))['$1']"
}
reader_has() { [ "$(reader "$1")" "$2" "$3" ]; } # reader_has lag -ge 2

dead_letter() { # dead_letter ORDER: its name, or nothing
    atoll events dead list --service points --topic orders.placed --json >"$tmp/body" &&
        json "next((l['id'] for l in d if '$1' in l['value']), '')"
}
is_dead() { [ -n "$(dead_letter "$1")" ]; }

pid_of() { # the process of a service's first instance, or nothing
    atoll ps --json | python3 -c '
import json, sys
instances = [i for s in json.load(sys.stdin)["services"] if s["name"] == sys.argv[1] for i in s["instances"]]
print(next((i["pid"] for i in instances if i.get("pid")), ""))' "$1"
}

has_new_process() { # SERVICE OLD_PID
    local pid
    pid=$(pid_of "$1") && [ -n "$pid" ] && [ "$pid" != "$2" ]
}

waits_or_is_replaced() { reader_has lag -ge 2 || has_new_process points "$frozen"; }

log_says() { # SERVICE TRACE TEXT
    atoll logs "$1" --trace "$2" >"$tmp/logs" && grep -qF -- "$3" "$tmp/logs"
}

show_log() { sed 's/^/      /' "$tmp/logs"; }

for tool in curl python3 "${ATOLL:-atoll}"; do
    command -v "$tool" >/dev/null || fail "$tool is needed, and not to be found"
done
say "Waiting for the shop at $edge ..."
for path in /catalog /legacy /.well-known/jwks.json /faults /faults/points; do
    eventually 60 "$edge$path answers (is \`atoll up $dir\` running?)" answers "$path"
done

step "What runs: eight services in three languages, each with an owner and its own data."
atoll ps

step "Look around. The catalog is a Node service, the notice another, the old pages are Python."
request GET '/catalog?q=umbrella'
expect 200 "searching the catalog"
[ "$(json 'd["products"][0]["id"]')" = umbrella ] || fail "the catalog has no umbrella"
say "Searching for an umbrella finds: $(json 'd["products"][0]["name"]'), $(json 'd["products"][0]["price_cents"]') cents"
request GET /notice
expect 200 "reading the notice"
say "Notice: $(json 'd["notice"]')"
has_weather() { answers /notice && [ "$(json 'd["weather"] is not None')" = True ]; }
if ! has_weather; then
    say "Weather in it: not yet. That service takes 1.5 s, and this one doesn't make customers wait for it."
    eventually 20 "the notice has weather" has_weather
    say "It asked in the background instead, and a moment later:"
fi
say "Weather in it: $(json 'd["weather"]["sky"]')."
request GET /legacy/products
expect 301 "a page that has moved"
say "The monolith's old product page answers 301, to $(header location): it is being strangled."

step "Log in as Ada. accounts (Rust) answers with a token that everybody can check."
request POST /login -d '{"email": "ada@example.com", "password": "correct-horse"}'
expect 200 "logging in"
token=$(json 'd["token"]')
request GET /user -H "Authorization: Bearer $token"
expect 200 "asking who we are"
user=$(json 'd["id"]')
say "We are $(json 'd["name"]'), user $user. The token begins with ${token:0:20}..."
request POST /login -d '{"email": "ada@example.com", "password": "wrong-horse"}'
expect 401 "logging in with a wrong password"
say "With a wrong password: $status."

step "Order three kilos of apples. orders (Python) asks accounts, catalog and payments."
before=$(points) || fail "the points cannot be read"
order apples 3
expect 201 "ordering"
order_trace=$trace
say "Order $(json 'd["id"]') is placed: $(json 'd["total_cents"]') cents, worth $(json 'd["points"]') points."
after=$before
order_is_placed
say "Payments has told that the charge is settled, and orders has heard it: the order is paid."
eventually 30 "the points are $after" has_points "$after"
say "Ada had $before points, and has $after now."

step "How does points know? Nobody has called it: orders has published what happened."
atoll events topics
atoll events tail orders.placed >"$tmp/tail"
grep "$id" "$tmp/tail" >"$tmp/record" || fail "order $id is not in orders.placed: $(cat "$tmp/tail")"
say "Ada's order in it: atoll events tail orders.placed"
sed 's/^/      /' "$tmp/record"
eventually 20 "the log of points has the order's event" \
    log_says points "$order_trace" "POST /events/order-placed"
say "Two events later it is still one trace, that of Ada's click: atoll logs points --trace $order_trace"
show_log

step "Break the bank: from now on, every call to it fails."
request PUT /faults -d '{"fail_rate": 1}'
expect 200 "breaking the bank"
order coffee 1
expect 502 "ordering while the bank is broken"
[ -n "$trace" ] || fail "the answer has no X-Trace-Id header"
[ "$(json 'd["trace_id"]')" = "$trace" ] || fail "the service saw another trace than the gateway"
say "The order fails with $status: $(json 'd["detail"]')"
say "The answer's X-Trace-Id is $trace. That is all we know, and all we need."

step "Ask for the log of this one request: atoll logs orders --trace $trace"
eventually 20 "the log of orders has the failure" log_says orders "$trace" "payment failed"
show_log
say "And one service deeper, atoll logs payments --trace $trace"
eventually 20 "the log of payments has the failure" log_says payments "$trace" "the bank failed"
show_log
say "The console shows the same in five clicks: atoll console, and the end of README.md"
say "No log files were searched, no machine was entered, and no service knows of the others' logs."

step "Repair the bank, and order again."
request PUT /faults -d '{}'
expect 200 "repairing the bank"
before=$(points) || fail "the points cannot be read"
# Whoever stopped calling a failing service may take a moment to trust it again.
eventually 60 "orders work again" order_succeeds coffee 1
after=$before
order_is_placed
eventually 30 "the points are $after" has_points "$after"
say "Order $id is paid, and Ada has $after points."

step "Let points answer every event with 500, and order."
before=$after
request PUT /faults/points -d '{"failing": true}'
expect 200 "breaking points"
failed=$(reader failed)
order honey 1
expect 201 "ordering while points fails"
order_is_placed
say "The order is paid all the same: orders doesn't know that points exists."
eventually 30 "points has failed twice" reader_has failed -ge $((failed + 2))
[ "$(points)" = "$before" ] || fail "points has counted what it answered with 500"
say "Points gets the event again and again, with longer and longer pauses: atoll events lag"
atoll events lag
request PUT /faults/points -d '{}'
expect 200 "repairing points"
eventually 60 "the points are $after" has_points "$after"
say "Repaired, it takes the event when it comes the next time. Ada has $after points."

step "Freeze the points service with kill -STOP, order twice, and kill it with kill -9."
frozen=$(pid_of points)
[ -n "$frozen" ] || fail "atoll ps --json shows no process for points"
kill -STOP "$frozen" || fail "process $frozen could not be stopped (as another user?)"
for product in honey coffee; do
    order "$product" 2
    expect 201 "ordering while points is frozen"
    order_is_placed
done
# On a very slow machine the health checks come first, and the backlog is gone before we look.
eventually 30 "two events wait for points" waits_or_is_replaced
say "Both orders are paid. Their events wait, on disk: atoll events lag"
atoll events lag
request GET /catalog/apples
expect 200 "the catalog, while points is frozen"
say "The catalog doesn't even notice."
kill -9 "$frozen" 2>"$tmp/ignored" || has_new_process points "$frozen" || fail "process $frozen could not be killed"
eventually 60 "points has a new process" has_new_process points "$frozen"
frozen=
eventually 60 "points answers again" answers "/points/$user"
eventually 60 "the points are $after" has_points "$after"
eventually 30 "nothing waits for points" reader_has lag -eq 0
say "Points is back as process $(pid_of points), and Ada has her $after points: none lost, none twice."

step "Deliver everything once more: all that points has heard since this tour began."
taken=$(reader taken)
atoll events replay points orders.placed --from "$began" --json >"$tmp/body"
records=$(json 'd["records"]')
[ "$records" -ge 5 ] || fail "$records records are delivered again, and not at least 5"
eventually 60 "points has taken them again" reader_has taken -ge $((taken + records))
[ "$(points)" = "$after" ] || fail "Ada has $(points) points, and not $after: an event was counted twice"
say "$records events came a second time, and Ada still has $after points: an order counts once."

step "Publish an event by hand that points cannot read: its points are \"fifty\"."
by_hand=$(new_key)
bad="{\"order\": \"$by_hand\", \"customer\": \"$user\", \"points\": \"fifty\"}"
atoll events publish orders.placed "$bad" --key "$user"
eventually 30 "the event is a dead letter" is_dead "$by_hand"
letter=$(dead_letter "$by_hand")
say "Points refuses it for good, so it is put aside with the reason: atoll events dead list"
atoll events dead list
say "All about one of them: atoll events dead show $letter"
atoll events dead show "$letter" >"$tmp/letter"
sed 's/^/      /' "$tmp/letter"
grep -q 'not "fifty"' "$tmp/letter" || fail "the dead letter doesn't say what is wrong with it"
order apples 1
expect 201 "ordering while there is a dead letter"
order_is_placed
eventually 30 "the points are $after" has_points "$after"
say "It stops nobody: Ada's next order has brought her to $after points."

step "Repair the dead letter, and send it again."
printf '%s' "${bad/\"fifty\"/50}" | atoll events dead edit "$letter" --value -
atoll events dead redrive "$letter"
after=$((after + 50))
eventually 30 "the points are $after" has_points "$after"
! is_dead "$by_hand" || fail "$letter was taken, and is among the dead letters still"
atoll events tail orders.placed >"$tmp/tail"
grep "$by_hand" "$tmp/tail" | grep -qF '"fifty"' || fail "the record itself was changed"
say "Fifty points more: $after. A copy was edited; the record in orders.placed is as it was."

step "Deploy a change of the catalog while customers shop: apples get a new name."
request GET /catalog/apples
old_name=$(json 'd["name"]')
old_revision=$revision
new_name="Apples of the new season"
[ "$old_name" != "$new_name" ] || fail "the new name is there already: atoll rollback catalog"
cp -R "$dir/services/catalog" "$tmp/catalog"
python3 - "$tmp/catalog/products.json" "$new_name" <<'PYTHON'
import json, sys
path, name = sys.argv[1:]
products = json.load(open(path))
next(product for product in products if product["id"] == "apples")["name"] = name
json.dump(products, open(path, "w"), indent=2)
PYTHON
watch() { # a customer who never stops looking at apples
    while [ ! -e "$tmp/seen-enough" ]; do
        curl -s -o "$tmp/watched" --max-time 10 -w '%{http_code}\n' "$edge/catalog/apples" || true
        sleep 0.02
    done
}
watch >"$tmp/statuses" &
watcher=$!
deployed=yes
atoll deploy catalog "$tmp/catalog"
apples_are() { answers /catalog/apples && [ "$(json 'd["name"]')" = "$1" ]; }
eventually 60 "the new catalog serves" apples_are "$new_name"
[ "$revision" != "$old_revision" ] || fail "X-Revision is still $revision"
say "Revision $old_revision said \"$old_name\", revision $revision says \"$new_name\"."

step "It was a mistake, after all: roll back."
atoll rollback catalog
deployed=no
eventually 60 "the old catalog serves again" apples_are "$old_name"
stop_watching
say "The apples are \"$old_name\" again (revision $revision)."
lost=$(grep -vcx 200 "$tmp/statuses" || true)
total=$(grep -c . "$tmp/statuses" || true)
[ "$total" -gt 0 ] || fail "the customer never got an answer"
[ "$lost" = 0 ] || fail "$lost of $total requests failed during deploy and rollback"
say "A customer asked $total times meanwhile, and got an answer every time."
say "What happened to this service, in order: atoll history catalog"
atoll history catalog

printf '\nThe tour is over: %d steps, all as promised.\n' "$number"
