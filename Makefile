# Targets for people: all run test bench check install. `make help` tells what they do.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
BIN := target/release/rcptmapd
SAMPLES := contrib/sample/relay_recipients contrib/sample/access

.PHONY: all help run test bench check install clean

all: ## build the daemon: target/release/rcptmapd
	$(CARGO) build --release --locked

help: ## this text
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST)

run: all ## serve the sample lists on 127.0.0.1:8910
	@echo "Ask it from another terminal:  echo 'anna@example.org' | nc -N 127.0.0.1 8910"
	@exec $(BIN) serve --listen 127.0.0.1:8910 $(SAMPLES)

test: ## every test that this machine can run; real MTAs need root and Debian, and say so where they are skipped
	$(CARGO) test --locked --no-fail-fast

check: ## formatting, lints as errors, the documentation
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny check licenses bans; fi

bench: all ## compare with redis, memcached and a bare server, side by side; about ten minutes
	$(CARGO) run --release --locked --manifest-path tests/bench/Cargo.toml --

install: all ## into $(DESTDIR)$(PREFIX): program, example configuration, systemd units, snippets
	install -D -m 0755 $(BIN) $(DESTDIR)$(PREFIX)/sbin/rcptmapd
	install -D -m 0644 contrib/rcptmapd.toml $(DESTDIR)$(SYSCONFDIR)/rcptmapd/rcptmapd.toml.example
	install -D -m 0644 contrib/systemd/rcptmapd.socket $(DESTDIR)$(UNITDIR)/rcptmapd.socket
	install -d $(DESTDIR)$(UNITDIR)
	sed 's|/usr/sbin/rcptmapd|$(PREFIX)/sbin/rcptmapd|' contrib/systemd/rcptmapd.service > $(DESTDIR)$(UNITDIR)/rcptmapd.service
	chmod 0644 $(DESTDIR)$(UNITDIR)/rcptmapd.service
	install -d $(DESTDIR)$(PREFIX)/share/doc/rcptmapd
	cp -R README.md CHANGELOG.md contrib/postfix contrib/exim contrib/sendmail contrib/fail2ban $(DESTDIR)$(PREFIX)/share/doc/rcptmapd/

clean: ## remove what was built; the cache of Debian's packages in .cache stays
	$(CARGO) clean
