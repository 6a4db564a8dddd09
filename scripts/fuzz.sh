#!/bin/sh
# Runs every fuzz target for a short while. Each package's tests are built
# once, with the fuzzer's instrumentation, and its targets run one after the
# other from that binary.
#
#   scripts/fuzz.sh [PACKAGE...]    default ./...
#
# FUZZ_BUDGET  seconds in all, shared by the targets (default 90)
# FUZZ_TIME    seconds for each target instead (make soak)
#
# An input that fails is written below the package's testdata/fuzz, where it
# is a regression test from then on: commit it with the fix.
set -eu

cd "$(dirname "$0")/.."
root=$PWD
[ $# -gt 0 ] || set -- ./...
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# The folders with targets, and how many targets there are.
go list -f '{{.Dir}} {{.ImportPath}}' "$@" | while read -r dir pkg; do
	names=$(cat "$dir"/*_test.go 2>/dev/null | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p')
	[ -z "$names" ] || echo "$dir $pkg" $names
done >"$work/targets"
count=$(awk '{ n += NF - 2 } END { print n + 0 }' "$work/targets")
if [ "$count" = 0 ]; then
	echo "fuzz: no targets"
	exit 0
fi
budget=${FUZZ_BUDGET:-90}
each=${FUZZ_TIME:-$((budget / count))}
[ "$each" -ge 1 ] || each=1
[ -n "${FUZZ_TIME:-}" ] || [ "$each" -le 5 ] || each=5
echo "fuzz: $count targets, $each s each"

cache=$(go env GOCACHE)/fuzz
failed=
while read -r dir pkg names; do
	go test -c -fuzz=. -o "$work/fuzz.test" "$pkg"
	for name in $names; do
		tries=3
		while :; do
			# Minimizing what was merely interesting would eat the time.
			if (cd "$dir" && "$work/fuzz.test" -test.run='^$' -test.fuzz="^$name\$" -test.fuzztime="${each}s" \
				-test.fuzzminimizetime=1s -test.parallel=2 -test.fuzzcachedir="$cache/$pkg") >"$work/out" 2>&1; then
				printf 'ok  \t%s\t%s\n' "${pkg#"$(go list -m)"/}" "$name"
				break
			fi
			# Before Go 1.27 the fuzzer can mistake the end of its own time
			# for a failure of the target (go.dev/issue/75804). It then
			# names no failing input. That is no result: run it again.
			tries=$((tries - 1))
			if [ "$tries" -gt 0 ] && ! grep -q 'Failing input written' "$work/out" &&
				[ "$(sed -n '/^--- FAIL/,/^FAIL/p' "$work/out" | sed '1d;$d' | tr -d ' ')" = contextdeadlineexceeded ]; then
				printf 'again\t%s\t%s\n' "${pkg#"$(go list -m)"/}" "$name"
				continue
			fi
			printf 'FAIL\t%s\t%s\n' "$pkg" "$name"
			cat "$work/out"
			failed=yes
			break
		done
	done
done <"$work/targets"
cd "$root"
[ -z "$failed" ]
