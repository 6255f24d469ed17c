# What people run. Everything else is `cargo`.
#
#   make demo      a simulated site of 50 devices, an outage, a mail; about two minutes after the build
#   make test      every check and every test
#   make check     formatting, lints, dependencies: what is quick
#   make bench     the benchmarks of a release build, with their peers
#   make package   the .deb and the .rpm

.PHONY: demo test check bench package deps clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile

deps:
	@packaging/deps.sh build

demo:
	@packaging/deps.sh build demo
	@packaging/demo.sh

check:
	@packaging/deps.sh build check
	@packaging/check.sh

test:
	@packaging/deps.sh build check test package
	@packaging/check.sh
	@packaging/test.sh

bench:
	@packaging/deps.sh build bench
	@packaging/bench.sh

package:
	@packaging/deps.sh build package
	@packaging/build.sh

clean:
	cargo clean
