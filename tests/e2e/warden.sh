#!/bin/sh
# Runs a command and sends it the signals named on standard input, one a line: warden.sh COMMAND...
# Kills it when standard input ends, that is when the test that holds its other end is gone, in whatever way.
exec 3<&0
"$@" </dev/null 3<&- &
command=$!
{
	while read -r signal <&3; do kill -s "$signal" "$command"; done
	kill -KILL "$command"
} 2>/dev/null >&2 &
reader=$!
exec 3<&- </dev/null
wait "$command"
status=$?
kill "$reader" 2>/dev/null
exit "$status"
