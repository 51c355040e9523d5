# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scripts share: flags read with care, configs imported by name, errors reported in one sentence.

A script defines absl flags, then calls `run(main)`. Library modules read no flags.
"""

import contextlib
import difflib
import math
import os
import signal
import sys
import textwrap

from absl import flags

from sqair import _quiet, config_files
from sqair.errors import UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

_FOREIGN_MODULES = ("absl", "tensorflow", "tensorboard", "tensorflow_core")
_HELP_FLAGS = ("help", "h", "helpfull", "helpshort")
_BOOLEAN_WORDS = dict.fromkeys(("true", "t", "1", "yes", "y"), "true")
_BOOLEAN_WORDS.update(dict.fromkeys(("false", "f", "0", "no", "n"), "false"))

_group_of_flag = {}  # flag name -> title, filled by `group`


@contextlib.contextmanager
def group(title):
    """Lists the flags defined within under `title` in `--help`, instead of under their module's title."""
    before = set(flags.FLAGS)
    yield
    for name in set(flags.FLAGS) - before:
        _group_of_flag[name] = title


def own_flags(flag_values=flags.FLAGS):
    """The flags of this project's modules, not those that libraries define: dict of name -> `flags.Flag`."""
    own = {}
    for module, members in flag_values.flags_by_module_dict().items():
        if module.split(".")[0] not in _FOREIGN_MODULES:
            own.update((flag.name, flag) for flag in members)
    return own


def run(main, configs=(), argv=None, expand=list):
    """Quietens TensorFlow, parses the flags, calls `main`, and exits with its status.

    Args:
        main: callable `main(flags, *config_modules)` that returns an exit status or None for 0.
        configs: names of flags whose values name config files. They are read first, and each file is imported
            by `config_files.load`, so that it can define flags of its own; `main` gets the modules in this order.
        argv: list of str, the program's name and its arguments; `sys.argv` by default.
        expand: function of `argv` that returns the one to parse.

    Exits with 2 and one sentence on stderr for wrong flags and for a `UserError`, with 130 when interrupted.
    """
    _quiet.quieten()
    try:
        argv = expand(sys.argv if argv is None else argv)
        modules = [config_files.load(_early_value(name, argv[1:])) for name in configs]
        if _asks_for_help(argv[1:]):
            sys.stdout.write(help_text(argv[0]) + "\n")
            sys.exit(0)
        parse(argv)
        sys.exit(main(flags.FLAGS, *modules))
    except UserError as error:
        sys.stderr.write(f"{error.with_flags(own_flags())}\n")
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt as interrupt:
        sys.stderr.write(f"{interrupt}\n" if str(interrupt) else "Interrupted.\n")
        sys.exit(EXIT_INTERRUPTED)


def take_sigterm_as_interrupt(message=""):
    """Lets SIGTERM do what Ctrl-C does; `message` is what `run` says then, "Interrupted." by default."""

    def interrupt(signal_number, frame):
        raise KeyboardInterrupt(message)

    signal.signal(signal.SIGTERM, interrupt)


def parse(argv, flag_values=flags.FLAGS):
    """Sets `flag_values` from `argv`, program's name first.

    Raises:
        UserError: for an unknown flag (its nearest neighbour is named), a malformed value, or an argument
            that belongs to no flag.
    """
    own = own_flags(flag_values)
    parser = flags.FlagValues()  # without the flags of libraries, that would be taken and do nothing
    for name, flag in own.items():
        parser[name] = flag
    try:
        arguments = parser.read_flags_from_files(argv[1:], force_gnu=False)
        rest = parser([argv[0]] + _join_values(arguments, own))[1:]
    except flags.UnrecognizedFlagError as error:
        raise UserError(_unknown_flag(error.flagname, own)) from None
    except flags.IllegalFlagValueError as error:
        raise UserError(_malformed_value(str(error), own)) from None
    except flags.Error as error:
        raise UserError(_plain(error)) from None
    if rest:
        raise UserError(f"Argument {rest[0]!r} belongs to no flag; write --flag=value, and see --help.")
    for name, flag in own.items():
        if isinstance(flag.value, float) and not math.isfinite(flag.value):
            raise UserError(f"--{name}={flag.value} is refused: it takes a finite number.")
    flag_values.mark_as_parsed()


def help_text(program, flag_values=flags.FLAGS):
    """The usage of a program: its description, then every flag with default and meaning, in titled groups."""
    main_module = sys.modules.get("__main__")
    lines = [f"usage: {os.path.basename(program)} [--flag=value ...]"]
    if main_module is not None and main_module.__doc__:
        lines += ["", main_module.__doc__.strip()]
    groups = {}
    own = own_flags(flag_values)
    for module, members in flag_values.flags_by_module_dict().items():
        for flag in members:
            if flag.name in own:
                title = _group_of_flag.get(flag.name) or _module_title(module, program)
                groups.setdefault(title, []).append(flag)
    for title, members in groups.items():
        lines += ["", f"{title}:"]
        for flag in members:
            lines += _describe(flag)
    return "\n".join(lines)


def _split(argument):
    """`--name=value` -> (name, value); value None where there is no `=`; name None for what is no flag."""
    if not argument.startswith("-") or argument in ("-", "--"):
        return None, None
    name, equals, value = argument.lstrip("-").partition("=")
    return name, (value if equals else None)


def _asks_for_help(arguments):
    return any(_split(argument) in [(name, None) for name in _HELP_FLAGS] for argument in arguments)


def _early_value(flag_name, arguments):
    """The value of a string flag, before other flags can be parsed because some are not defined yet."""
    try:
        arguments = flags.FLAGS.read_flags_from_files(arguments, force_gnu=False)
    except flags.Error as error:
        raise UserError(_plain(error)) from None
    result = flags.FLAGS[flag_name].default
    for i, argument in enumerate(arguments):
        name, value = _split(argument)
        if name == flag_name:
            if value is None:
                value = arguments[i + 1] if i + 1 < len(arguments) else ""
            result = value
    if not result:
        raise UserError(f"--{flag_name} is empty; give the path or the name of a config file.")
    return result


def _join_values(arguments, own):
    """Writes `--boolean true` as `--boolean=true`; refuses a flag that takes the next flag for its value."""
    joined = []
    i = 0
    while i < len(arguments):
        name, value = _split(arguments[i])
        following = arguments[i + 1] if i + 1 < len(arguments) else None
        if name not in own or value is not None:
            joined.append(arguments[i])
        elif not own[name].boolean:
            if following is None or _split(following)[0] in own:
                raise UserError(f"--{name} has no value; write --{name}=value.")
            joined.append(f"--{name}={following}")
            i += 1
        elif following is not None and following.lower() in _BOOLEAN_WORDS:
            joined.append(f"--{name}={_BOOLEAN_WORDS[following.lower()]}")
            i += 1
        else:
            joined.append(arguments[i])
        i += 1
    return joined


def _unknown_flag(name, own):
    shown = f"Unknown flag --{name}"
    name = name.replace("-", "_").lower()
    candidates = list(own)
    if name.startswith("no"):
        candidates += ["no" + flag.name for flag in own.values() if flag.boolean]
    near = difflib.get_close_matches(name, candidates, n=1, cutoff=0.0)
    return f"{shown}; did you mean --{near[0]}? (--help lists all flags.)" if near else f"{shown}."


def _malformed_value(message, own):
    """Absl's `flag --name=value: reason` as a sentence that says what would work."""
    head, _, reason = message.partition(": ")
    name, _, value = head.replace("flag --", "", 1).partition("=")
    if name in own:
        parser = own[name].parser
        try:
            parser.parse(value)
        except (ValueError, TypeError):
            reason = f"it takes {_wanted(own[name])}"
    return f"--{name}={value} is refused: {reason.rstrip('.')}."


def _plain(error):
    return " ".join(str(error).replace("ERROR:: ", "").split()).rstrip(".") + "."


def _wanted(flag):
    if flag.boolean:
        return "true or false"
    if getattr(flag.parser, "enum_values", None):
        return "one of " + ", ".join(str(value) for value in flag.parser.enum_values)
    return flag.parser.syntactic_help


def _module_title(module_name, program):
    module = sys.modules.get(module_name)
    if module is None or module_name == "__main__":
        return f"Flags of {os.path.basename(program)}"
    doc = (module.__doc__ or "").strip().split("\n")[0].rstrip(".")
    return f"{doc} ({os.path.basename(getattr(module, '__file__', module_name))})" if doc else module_name


def _describe(flag):
    default = ",".join(map(str, flag.default)) if isinstance(flag.default, list) else flag.default
    if flag.boolean:
        head = f"  --[no]{flag.name}" + ("" if default is None else f" (default {str(default).lower()})")
    elif default is None or default == "":
        head = f"  --{flag.name}"
    else:
        head = f"  --{flag.name} (default {default})"
    text = " ".join(flag.help.split())
    return [head] + textwrap.wrap(text, 100, initial_indent="      ", subsequent_indent="      ")
