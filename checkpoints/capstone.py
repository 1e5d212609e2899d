"""The capstone: the finished pieces, all of them, run as one program.

It builds a corpus, trains the tokenizer, trains the model and keeps checkpoints, measures what came of it, and lets it
write: one story by sampling, one by beam search. Whatever has passed is the learner's own; the rest is lent.
"""

import ast
import contextlib
import ctypes
import dataclasses
import hashlib
import importlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import ROOT, corpus, trees
from .catalogue import Catalogue, Task
from .record import Record
from .screen import Screen

if TYPE_CHECKING:
    import datasets  # type: ignore[import-untyped]
    import torch

RUNS = ROOT / "checkpoints" / "capstone"
END = "<|endoftext|>"
# What is 50 times less likely than the likeliest token is not drawn: of hundreds of tokens that the model knows to be
# wrong, each with a ten-thousandth of the probability, one would slip into every tenth story.
MIN_P = 0.02
PIECES = (  # what the program calls itself; the rest is what these stand on
    "basics/environment",
    "datasets/builtin",
    "datasets/loader",
    "attention/masking",
    "attention/patterns",
    "attention/scaled_dot_product",
    "gpt2/configuration",
    "gpt2/model",
    "gpt2/pretrained",
    "gpt2/tokenizer",
    "training/checkpointing",
    "training/data",
    "training/loop",
    "training/optimizer",
    "training/schedule",
    "generation/beam_search",
    "generation/decoding",
    "generation/evaluation",
    "generation/strategies",
)


class CapstoneError(Exception):
    """The capstone cannot go on; the message says why, and what to do."""


@dataclass(frozen=True)
class Preset:
    """A size of the capstone."""

    embed_dim: int
    num_layers: int
    num_heads: int
    steps: int
    batch_size: int = 32
    context_length: int = 192
    vocab_size: int = 1024
    held_out: int = 1000  # stories
    samples: int = 200


PRESETS = {
    "quick": Preset(64, 2, 2, steps=280, held_out=200, samples=50),
    "standard": Preset(128, 4, 4, steps=1400),
    "long": Preset(192, 6, 6, steps=6000),
}


@dataclass(frozen=True)
class Settings:
    """All that decides what comes out of a run, but for the learner's code."""

    preset: str
    steps: int
    seed: int
    data: str  # the path of the learner's own text; "" for the stories
    digest: str  # of that text, or of the stories' grammar


# Whose code it is


def use_pieces(course: Catalogue, known: Record) -> dict[str, bool]:
    """Put in place what the capstone runs on: of each task the learner's text if it has passed as it is, else lent.

    Returns:
        For each task whether it is the learner's.
    """
    passed = known.passed_now(course)
    sources = {task.id: trees.learners(task) if task.id in passed else trees.solutions(task) for task in course.tasks()}
    trees.Tree(list(course.tasks()), sources).install()
    return {task.id: task.id in passed for task in course.tasks()}


def piece(name: str) -> Any:
    """A task's module, whoever wrote it."""
    return importlib.import_module("exercises." + name.replace("/", "."))


def running(course: Catalogue) -> list[Task]:
    """The tasks whose code the capstone runs: what it calls itself, and what that stands on."""
    called = [course.task(name) for name in PIECES]
    needed = {task.id for piece in called for task in (piece, *trees.dependencies(piece, course))}
    return [task for task in course.tasks() if task.id in needed]


def code_lines(text: str) -> int:
    """How many lines of code a text has, written in one way for all: without comments, docstrings and line breaks."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(body, list):
            first = body[0] if body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                body[:] = body[1:] or [ast.Pass()]
    return len([line for line in ast.unparse(tree).splitlines() if line.strip()])


def show_pieces(screen: Screen, course: Catalogue, own: dict[str, bool]) -> float:
    """Say whose each piece is; returns the learner's share of the running code."""
    lines = {}
    for task in running(course):
        source = trees.learners(task) if own[task.id] else trees.solutions(task)
        lines[task.id] = code_lines(source.text or "")
    share = sum(count for name, count in lines.items() if own[name]) / sum(lines.values())
    for whose, mine in (("yours", True), ("lent from the solutions, for it has not passed as it is now", False)):
        names = [name for name in lines if own[name] is mine]
        if names:
            screen.line(f"{whose}: {', '.join(names)}", "green" if mine else "yellow")
    screen.line(f"{share:.0%} of the running code is yours (lines of code, without comments and docstrings).")
    screen.line()
    return share


# The texts


@dataclass(frozen=True)
class Texts:
    """What is trained on, and what is held out."""

    train: "datasets.Dataset"
    held_out: "datasets.Dataset"
    log_probability: Callable[[str], float] | None  # where it is known: of stories


def read_texts(settings: Settings, preset: Preset, folder: Path) -> Texts:
    """The stories, or the learner's own texts; held out is what no copy of is trained on."""
    import datasets

    datasets.disable_progress_bars()
    if not settings.data:
        size = settings.steps * preset.batch_size + preset.held_out
        documents = corpus.dataset(size, settings.seed, cache_dir=folder / "documents")
        share = preset.held_out / size
    else:
        passages = list(own_texts(Path(settings.data)))
        if len(set(passages)) < 2:
            raise CapstoneError(f"{settings.data}: there must be at least two different paragraphs, one to be held out")
        documents = datasets.Dataset.from_dict({"text": passages})
        share = 0.05
    train, held_out = piece("training/data").split_documents(documents, share, seed=settings.seed)
    return Texts(train, held_out, None if settings.data else corpus.log_probability)


def own_texts(path: Path) -> Iterator[str]:
    """The paragraphs of a text file, or of all those in a folder; of JSON lines and Parquet files, the documents."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    known = [file for file in files if file.suffix.lower() in (".txt", ".md", ".jsonl", ".parquet")]
    if not known:
        raise CapstoneError(f"{path}: no file that ends in .txt, .md, .jsonl or .parquet")
    for file in known:
        if file.suffix.lower() in (".jsonl", ".parquet"):
            found = piece("datasets/builtin").stream_documents([file])
            yield from (row["text"] for row in found)
            continue
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise CapstoneError(f"{file}: not UTF-8 text: byte {error.start}") from error
        for paragraph in filter(str.strip, text.split("\n\n")):
            yield from _passages(paragraph.strip("\n"))


def _passages(paragraph: str, longest: int = 1000) -> Iterator[str]:
    """A long paragraph in pieces that end with a line."""
    passage = ""
    for line in paragraph.splitlines(keepends=True):
        if passage and len(passage) + len(line) > longest:
            yield passage.rstrip("\n")
            passage = ""
        passage += line
    if passage.strip():
        yield passage.rstrip("\n")


def digest_of(path: Path) -> str:
    """A digest of a file, or of all files in a folder."""
    found = hashlib.blake2b(digest_size=8)
    try:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                found.update(file.name.encode())
                found.update(file.read_bytes())
    except OSError as error:
        raise CapstoneError(f"{path} cannot be read: {error.strerror}") from error
    return found.hexdigest()


def pages(paragraphs: Sequence[str], encode: Callable[[str], list[int]], room: int) -> Iterator[str]:
    """Put paragraphs together into pages of at most `room` tokens; one that is longer is cut between words."""
    page, length = "", 0
    for paragraph in paragraphs:
        for part in _fitting(paragraph, encode, room):
            size = len(encode("\n\n" + part))
            if page and length + size > room:
                yield page
                page, length = "", 0
            page, length = (f"{page}\n\n{part}" if page else part), length + size
    if page:
        yield page


def _fitting(paragraph: str, encode: Callable[[str], list[int]], room: int) -> Iterator[str]:
    if len(encode("\n\n" + paragraph)) <= room:
        yield paragraph
        return
    middle = len(paragraph) // 2
    gap = paragraph.find(" ", middle)
    cut = gap if 0 < gap < len(paragraph) - 1 else middle
    if cut == 0:
        return  # a single character of more tokens than there is room for
    yield from _fitting(paragraph[:cut], encode, room)
    yield from _fitting(paragraph[cut:].lstrip(" "), encode, room)


# The program


class Capstone:
    """One run, in a folder of its own; what has been done before is not done again."""

    def __init__(self, screen: Screen, settings: Settings, folder: Path) -> None:
        import torch

        self.screen = screen
        self.settings = settings
        self.preset = PRESETS[settings.preset]
        self.folder = folder
        self.device = piece("basics/environment").pick_device()
        self.generator = torch.Generator(self.device).manual_seed(settings.seed)
        self.filters = [piece("generation/strategies").MinP(MIN_P)]

    def prepare(self) -> None:
        """Texts, tokenizer, shards."""
        texts = read_texts(self.settings, self.preset, self.folder)
        self.log_probability = texts.log_probability
        tokenizer_module = piece("gpt2/tokenizer")
        stored = self.folder / "tokenizer"
        with self.phase("tokenizer") as told:
            if stored.exists():
                self.tokenizer = tokenizer_module.BPETokenizer.load(stored)
            else:
                sample = itertools.islice(texts.train["text"], 2000)
                self.tokenizer = tokenizer_module.train_bpe(sample, self.preset.vocab_size, special_tokens=[END])
                self.tokenizer.save(stored)
            told(f"{self.tokenizer.vocab_size} tokens, {len(self.tokenizer.merges)} merges")
        self.end = self.tokenizer.special_tokens[END]
        self.encode = self.tokenizer.to_tiktoken().encode_ordinary
        with self.phase("tokens") as told:
            self.train_rows = self._rows(texts.train, "train")
            self.held_out_rows = self._rows(texts.held_out, "held-out")
            self.held_out = [self.tokenizer.decode(row[1:-1].tolist()) for row in self.held_out_rows]
            count = sum(len(row) - 1 for row in self.held_out_rows)
            told(f"{len(self.train_rows):,} texts to train on, {len(self.held_out_rows):,} held out")
        self.floor = None
        if self.log_probability is not None:
            self.floor = -sum(map(self.log_probability, self.held_out)) / count

    def _rows(self, documents: "datasets.Dataset", prefix: str) -> Any:
        data = piece("training/data")
        shards = sorted((self.folder / "shards").glob(f"{prefix}-*.bin"))
        room = self.preset.context_length
        if not shards:
            rows: Any = documents
            if self.settings.data:
                rows = [{"text": page} for page in pages(documents["text"], self.encode, room - 1)]
            shards = data.write_shards(rows, self.encode, self.folder / "shards", end_of_text=self.end, prefix=prefix)
        return data.DocumentDataset(shards, end_of_text=self.end, context_length=room)

    def make_trainer(self, listeners: Sequence[Callable[[Any], None]]) -> Any:
        """The model and what trains it."""
        loop, loader = piece("training/loop"), piece("datasets/loader")
        collate = piece("training/data").collate_rows
        # A story is seen once, and there is nothing to be learnt by heart; a text of one's own is soon seen again.
        dropout = 0.1 if self.settings.data else 0.0
        model = make_model(self.preset, self.tokenizer.vocab_size, self.settings.seed, dropout).to(self.device)
        often = max(self.settings.steps // 10, 20)
        config = loop.TrainingConfig(
            steps=self.settings.steps, evaluate_every=often, checkpoint_every=often, autocast=faster_dtype(self.device)
        )
        batch_size = min(self.preset.batch_size, len(self.train_rows))
        return loop.Trainer(
            model,
            make_optimizers(model),
            loader.make_data_loader(
                self.train_rows, batch_size, shuffle=True, seed=self.settings.seed, drop_last=True, collate=collate
            ),
            config,
            schedule=self.schedule(),
            validation=list(itertools.islice(loader.make_data_loader(self.held_out_rows, 64, collate=collate), 4)),
            store=piece("training/checkpointing").CheckpointStore(self.folder / "checkpoints"),
            listeners=listeners,
        )

    def schedule(self) -> Callable[[int], float]:
        """Up within the first steps, and down in a straight line over all the others."""
        steps = self.settings.steps
        warmup = min(50, steps // 10)
        return partial(
            piece("training/schedule").warmup_stable_decay,
            warmup_steps=warmup,
            total_steps=steps,
            decay_steps=steps - warmup,
        )

    def train(self) -> None:
        """Train, from the last checkpoint on if there is one."""
        steps = self.settings.steps
        loop = piece("training/loop")
        with loop.ProgressBar(steps, floor=self.floor, console=self.screen.console) as bar:
            trainer = self.make_trainer([bar])
            parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
            self.screen.line(f"model: {parameters:,} parameters; {steps} steps of {self.preset.batch_size} texts")
            if trainer.resume():
                self.screen.line(f"going on from the checkpoint of step {trainer.step}")
            self.history = trainer.train()
        self.model = trainer.model.eval()
        piece("gpt2/pretrained").save_pretrained(self.model, self.folder / "model", tokenizer=self.tokenizer)

    def evaluate(self) -> None:
        """Against the floor, against counting, and what it writes."""
        from .ngrams import NGrams

        evaluate = partial(
            piece("generation/evaluation").evaluate,
            self.model,
            self.tokenizer,
            end_of_text=self.end,
            num_samples=self.preset.samples,
            max_new_tokens=self.preset.context_length - 1,
            log_probability=self.log_probability,
            generator=self.generator,
            batch_size=100,
        )
        with self.phase("evaluation") as told:
            self.evaluation = evaluate(self.held_out, filters=self.filters)
            self.unfiltered: Any = None  # without a grammar there is nothing to compare
            if self.log_probability is not None:
                self.unfiltered = evaluate(self.held_out[:1]).grammatical
            told(f"{len(self.held_out):,} texts read")
        with self.phase("n-grams") as told:
            train = [row.numpy() for row in self.train_rows]
            held_out = [row.numpy() for row in self.held_out_rows]
            counted = NGrams(train, 5, self.tokenizer.vocab_size)
            self.baselines = {"bigram": counted.loss(held_out, order=2), "5-gram": counted.loss(held_out)}
            told("counted in the same training texts")

    def results(self) -> dict[str, Any]:
        """The figures, under the names that are shown."""
        found, last = self.evaluation, self.history[-1]
        rows: dict[str, Any] = {"held-out loss": f"{found.loss:.4f} nats per token"}
        if found.floor is not None:
            rows["floor"] = f"{found.floor:.4f}: no model can be below it"
            rows["above the floor"] = f"{100 * found.above_floor:.2f} %"
            rows["grammatical"] = (
                f"{100 * found.grammatical:.1f} % of {len(found.samples)} sampled stories (min-p {MIN_P}); "
                f"{100 * self.unfiltered:.1f} % without the filter"
            )
        rows |= {name: f"{loss:.4f}" for name, loss in self.baselines.items()}
        rows["bits per byte"] = f"{found.bits_per_byte:.4f}"
        rows["distinct"] = ", ".join(f"{n}-grams {100 * share:.1f} %" for n, share in found.distinct.items())
        rows["repetition"] = f"{100 * found.repetition:.1f} % of the 4-grams of a text occurred before in it"
        rows["training"] = f"{last.seconds:.0f} s, {last.tokens / max(last.seconds, 1e-9):,.0f} tokens per second"
        return rows

    def write(self) -> None:
        """A text by sampling, as it comes, and one by beam search."""
        limit = self.preset.context_length - 1
        self.screen.line("a sampled text:", "bold")
        tokens = piece("generation/decoding").stream(
            self.model,
            [self.end],
            max_new_tokens=limit,
            stop_tokens=[self.end],
            filters=self.filters,
            sampling=True,
            generator=self.generator,
        )
        self.sampled = self.screen.stream(texts_so_far(self.tokenizer, tokens, self.end))
        self._price(self.sampled)
        self.screen.line("the likeliest text that a beam search finds:", "bold")
        best = piece("generation/beam_search").beam_search(
            self.model, [self.end], num_beams=4, max_new_tokens=limit, end_of_text=self.end
        )[0]
        self.beamed = self.tokenizer.decode([token for token in best.tokens if token != self.end])
        self.screen.line(self.beamed)
        self._price(self.beamed)

    def _price(self, text: str) -> None:
        if self.log_probability is None:
            self.screen.line()
            return
        try:
            told = f"grammatical; the grammar tells it with log-probability {self.log_probability(text):.1f}"
        except corpus.NotAStoryError as error:
            told = f"not grammatical: {error}"
        self.screen.line(f"({told})\n", "dim")

    def draw(self) -> list[Path]:
        """Loss curve, schedule and attention maps, as PNG."""
        from . import plots

        drawn = {
            "loss": plots.loss_curve(self.history, self.floor, self.baselines),
            "schedule": piece("training/schedule").plot_schedule(
                {"warm-up and linear decay": self.schedule()}, self.settings.steps
            ),
        }
        tokens = [self.end, *self.encode(self.sampled)][:40]
        labels = [self.tokenizer.decode([token]) for token in tokens]
        attention_weights = piece("attention/scaled_dot_product").attention_weights
        mask = piece("attention/masking").causal_mask(len(tokens), device=self.device)
        for layer, weights in enumerate(plots.attention_of(self.model, tokens, mask, attention_weights)):
            drawn[f"attention-{layer}"] = piece("attention/patterns").plot_attention(weights, labels)
        paths = []
        for name, figure in drawn.items():
            paths.append(self.folder / f"{name}.png")
            figure.savefig(paths[-1], dpi=100)
        return paths

    def report(self, share: float) -> None:
        """Keep what was found, for other programs."""
        found = {
            "settings": asdict(self.settings),
            "share": share,
            "floor": self.floor,
            "baselines": self.baselines,
            "grammatical_unfiltered": self.unfiltered,
            "evaluation": asdict(self.evaluation),
            "history": [asdict(progress) for progress in self.history],
            "sampled": self.sampled,
            "beam": self.beamed,
        }
        path = self.folder / "results.json"
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
        (self.folder / "evaluation.md").write_text(self.evaluation.to_markdown(), encoding="utf-8")

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[Callable[[str], None]]:
        """Say what is being done, then what came of it and how long it took."""
        self.screen.waiting(f"{name} ...")
        start, told = time.perf_counter(), list[str]()
        yield told.append
        self.screen.waiting()
        self.screen.line(f"{name}: {'; '.join(told)} ({time.perf_counter() - start:.1f} s)")


def seconds_per_step(settings: Settings) -> float:
    """How long a step takes: measured on a model that is thrown away, and made-up tokens."""
    import torch

    preset, device = PRESETS[settings.preset], piece("basics/environment").pick_device()
    model = make_model(preset, preset.vocab_size, settings.seed).to(device)
    length = preset.context_length if settings.data else preset.context_length * 2 // 3
    tokens = torch.zeros(preset.batch_size, length, dtype=torch.int64)
    clock: list[float] = []
    trainer = piece("training/loop").Trainer(
        model,
        make_optimizers(model),
        [(tokens, tokens)],
        piece("training/loop").TrainingConfig(steps=10, log_every=1, autocast=faster_dtype(device)),
        listeners=[lambda progress: clock.append(time.perf_counter())],
    )
    trainer.train()
    return (clock[-1] - clock[3]) / (len(clock) - 4)  # the first few make room and warm up


def make_model(preset: Preset, vocab_size: int, seed: int, dropout: float = 0.0) -> Any:
    """A new model, its weights drawn from the seed."""
    import torch

    config = piece("gpt2/configuration").GPT2Config(
        vocab_size=vocab_size,
        context_length=preset.context_length,
        embed_dim=preset.embed_dim,
        num_layers=preset.num_layers,
        num_heads=preset.num_heads,
        dropout=dropout,
        attention_dropout=dropout,
        embedding_dropout=dropout,
    )
    torch.manual_seed(seed)
    return piece("gpt2/model").GPT2(config, generator=torch.Generator().manual_seed(seed))


def make_optimizers(model: Any) -> list[Any]:
    """Muon (torch has it) for the matrices between the layers, the learner's AdamW for all other parameters."""
    import torch

    matrices = {name: p for name, p in model.named_parameters() if name.startswith("h.") and p.dim() == 2}
    others = [p for name, p in model.named_parameters() if name not in matrices]
    adamw = piece("training/optimizer").AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0)
    return [adamw, torch.optim.Muon(matrices.values(), lr=0.02, weight_decay=0.0)]


def texts_so_far(tokenizer: Any, tokens: Iterator[int], end: int) -> Iterator[str]:
    """The text of the tokens as it grows; a character of several tokens is waited for."""
    seen: list[int] = []
    for token in tokens:
        if token == end:
            return
        seen.append(token)
        text = tokenizer.decode(seen)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text


def faster_dtype(device: "torch.device") -> "torch.dtype | None":
    """The dtype to which autocast turns matrix products: bfloat16 where this machine multiplies faster in it."""
    import torch

    if device.type != "cpu":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
    times = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(512, 512, dtype=dtype)
        rounds = []
        for _ in range(5):
            start = time.perf_counter()
            matrix @ matrix
            rounds.append(time.perf_counter() - start)
        times[dtype] = min(rounds)
    return torch.bfloat16 if times[torch.bfloat16] < times[torch.float32] else None


def keep_memory() -> None:
    """Let the C library keep freed memory for the next tensor, where it can be told to (glibc, on Linux).

    Else it gives every large tensor back to the system at once, which clears each page of the next one anew: that can
    take as long as the arithmetic.
    """
    threshold, trim = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD in malloc.h
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(threshold, 2**30)
        library.mallopt(trim, 2**31 - 1)


def run(
    course: Catalogue, screen: Screen, known: Record, settings: Settings, minutes: float | None, fresh: bool
) -> int:
    """The whole program; returns the exit status."""
    from filelock import FileLock

    keep_memory()
    own = use_pieces(course, known)
    first = int(os.environ.get("RANK", "0")) == 0  # under torchrun, one process speaks for all
    screen.console.quiet = not first
    share = show_pieces(screen, course, own)
    folder = RUNS / f"{Path(settings.data).stem if settings.data else 'stories'}-{settings.preset}-{settings.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if fresh and first:
            _empty(folder)
        capstone = Capstone(screen, _settled(screen, settings, minutes, folder), folder)
        with _named_line():
            capstone.prepare()
    with _named_line():
        capstone.train()
        if not first:
            return 0
        capstone.evaluate()
        screen.line()
        screen.table(capstone.results())
        screen.line()
        capstone.write()
        for path in capstone.draw():
            screen.line(f"drawn: {_shown(path)}", "dim")
    capstone.report(share)
    screen.line(f"kept in {_shown(folder)}: the figures, results.json, evaluation.md, and the model in model/", "dim")
    return 0


def _settled(screen: Screen, settings: Settings, minutes: float | None, folder: Path) -> Settings:
    """The settings that the run in the folder was begun with; else those asked for, with the steps that fit."""
    path = folder / "settings.json"
    if path.exists():
        begun = Settings(**json.loads(path.read_text(encoding="utf-8")))
        if dataclasses.replace(begun, steps=settings.steps) != settings:
            raise CapstoneError(
                f"{settings.data or 'the grammar of the stories'} has changed since {_shown(folder)} was begun: "
                "--fresh begins anew"
            )
        if minutes is not None or begun.steps != settings.steps:
            screen.line(f"going on with the {begun.steps} steps that were begun (--fresh begins anew)", "yellow")
        return begun
    if minutes is not None:
        each = seconds_per_step(settings)
        settings = dataclasses.replace(settings, steps=max(10, int(minutes * 60 / each)))
        screen.line(f"{each:.3f} s a step: {settings.steps} steps in {minutes:g} minutes")
    path.write_text(json.dumps(asdict(settings), indent=1), encoding="utf-8")
    return settings


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != ".lock":
            path.unlink()


def _shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def go_on(course: Catalogue, screen: Screen, known: Record, folder: str, prompt: str, count: int, seed: int) -> int:
    """Load a GPT-2 in Hugging Face's layout into the learner's model, and go on from a prompt."""
    import torch

    own = use_pieces(course, known)
    show_pieces(screen, course, own)
    pretrained, decoding, strategies = (
        piece(name) for name in ("gpt2/pretrained", "generation/decoding", "generation/strategies")
    )
    try:
        model = pretrained.load_pretrained(folder, device=piece("basics/environment").pick_device())
        tokenizer = piece("gpt2/tokenizer").load_tokenizer(folder)
    except (ValueError, OSError) as error:
        raise CapstoneError(str(error)) from error
    end = tokenizer.special_tokens.get(END)
    tokens = tokenizer.encode(prompt) or ([end] if end is not None else [])
    room = model.config.context_length - len(tokens)
    if not tokens or room < 1:
        raise CapstoneError(
            f"the prompt has {len(tokens)} tokens; the model takes 1 to {model.config.context_length - 1}"
        )
    screen.line(f"{sum(p.numel() for p in model.parameters()):,} parameters, {tokenizer.vocab_size:,} tokens\n", "dim")
    new = decoding.stream(
        model,
        tokens,
        max_new_tokens=min(count, room),
        stop_tokens=[] if end is None else [end],
        filters=[strategies.Temperature(0.8), strategies.TopK(min(50, tokenizer.vocab_size))],
        sampling=True,
        generator=torch.Generator(model.wte.weight.device).manual_seed(seed),
    )
    screen.stream(itertools.chain([prompt], (prompt + text for text in texts_so_far(tokenizer, new, end))))
    return 0


@contextlib.contextmanager
def _named_line() -> Iterator[None]:
    """An exception out of a piece is told by its line, not by a traceback through the course."""
    from .crashes import first_line, line_of

    try:
        yield
    except (CapstoneError, OSError):
        raise
    except Exception as error:
        where = line_of(error) or getattr(error, "where", "")
        if not where:
            raise
        raise CapstoneError(f"{where}\n{type(error).__name__}: {first_line(error)}") from error
