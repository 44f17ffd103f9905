.PHONY: check format test

check:
	ruff format --check .
	ruff check .
	pyright
	lint-imports
	python -m pytest

format:
	ruff format .
	ruff check --fix .

test:
	python -m pytest
