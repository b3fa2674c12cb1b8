"""``python -m study`` is ``ganstudy``."""

from study.cli import main

if __name__ == "__main__":
    main()
