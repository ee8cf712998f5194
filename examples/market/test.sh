#!/usr/bin/env bash
# Runs the tests of all services, each with its own stack's runner. They need no atoll: every
# service is tested alone, between fakes of its neighbours.
set -uo pipefail
cd "$(dirname "$0")/services"
export PYTHONDONTWRITEBYTECODE=1

passed=() failed=()
for service in *; do
    # What is in the folder says how it is tested.
    if [ -f "$service/Cargo.toml" ]; then
        # In release, so that the build is shared with the one that runs.
        run=(cargo test --quiet --release --locked)
    elif [ -f "$service/main.mjs" ]; then
        run=(node --test)
    else
        run=(python3 -m unittest --quiet)
    fi
    echo "── $service: ${run[*]}"
    if output=$(cd "$service" && "${run[@]}" 2>&1); then
        passed+=("$service")
    else
        failed+=("$service")
        printf '%s\n' "$output"
    fi
done

echo "market: ${#passed[@]} services passed, ${#failed[@]} failed${failed[*]:+: ${failed[*]}}"
[ ${#failed[@]} -eq 0 ]
