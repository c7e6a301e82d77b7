"""Writes weighted.json: weighted prompts by the rules of AUTOMATIC1111's
stable-diffusion-webui 1.10 (parse_prompt_attention of prompt_parser.py;
tokenize_line and process_tokens of sd_hijack_clip.py), said again in other
words. The ids of each piece of text are those of transformers, as in golden.py.

    python weighted.py
"""
import json, os, random, re

from golden import FOLDERS, HERE, load

ROOM, BACKTRACK = 75, 20
BREAK = ("BREAK", -1.0)

# --- syntax --------------------------------------------------------------------

SYNTAX = re.compile(r"""
    \\ (?P<escaped> [\\()\[\]]? )
  | (?P<open> [(\[] )
  | : \s* (?P<weight> [+-]? [.\d]+ ) \s* \)
  | (?P<close> [)\]] )
  | [^\\()\[\]:]+ | :
""", re.X)

def parse(prompt):
    """[(text, weight)]: each piece's weight is the product of the brackets around
    it, the one closed first taken first."""
    pieces, brackets = [], []  # brackets: (first piece, end, factor) in the order of closing
    opened = {")": [], "]": []}
    factor = {")": 1.1, "]": 1 / 1.1}
    for m in SYNTAX.finditer(prompt):
        closer = ")" if m["weight"] else m["close"]
        if m["escaped"] is not None:
            pieces.append((m["escaped"], 1.0))
        elif m["open"]:
            opened[")" if m["open"] == "(" else "]"].append(len(pieces))
        elif closer and opened[closer]:
            brackets.append((opened[closer].pop(), len(pieces), float(m["weight"] or factor[closer])))
        else:
            for i, text in enumerate(re.split(r"\s*\bBREAK\b\s*", m[0])):
                pieces += [BREAK] * (i > 0) + [(text, 1.0)]
    for closer in ")]":
        brackets += [(first, len(pieces), factor[closer]) for first in opened[closer]]

    runs = []
    for i, (text, weight) in enumerate(pieces):
        for first, end, by in brackets:
            if first <= i < end:
                weight *= by
        if runs and runs[-1][1] == weight:
            runs[-1] = (runs[-1][0] + text, weight)
        else:
            runs.append((text, weight))
    return runs or [("", 1.0)]

# --- chunks --------------------------------------------------------------------

def chunks(tokenizer, runs):
    """[(ids, weights)], 77 of each."""
    comma = tokenizer.get_vocab().get(",</w>")
    bos, eos, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    paragraphs = [[]]
    for text, weight in runs:
        if (text, weight) == BREAK:
            paragraphs.append([])
        else:
            paragraphs[-1] += [(id, weight) for id in tokenizer(text, add_special_tokens=False).input_ids]
    if len(paragraphs) > 1 and not paragraphs[-1]:
        paragraphs.pop()

    result = []
    for left in paragraphs:
        while left is not None:
            cut = ROOM
            if len(left) > ROOM and left[ROOM][0] != comma:
                commas = [i for i in range(ROOM - BACKTRACK, ROOM) if left[i][0] == comma]
                cut = commas[-1] + 1 if commas else ROOM
            taken, left = left[:cut], left[cut:] or None
            taken += [(eos, 1.0)] * (ROOM - len(taken))
            ids = [bos] + [id for id, _ in taken] + [eos]
            if pad != eos:
                first = ids.index(eos)
                ids[first + 1:] = [pad] * (len(ids) - first - 1)
            result.append((ids, [1.0] + [w for _, w in taken] + [1.0]))
    return result

# --- prompts -------------------------------------------------------------------

WORDS = "a cat photo of the astronaut, masterpiece, best quality, 8k red hair in style by oil painting. sunset; it's dog's Café 猫 😀 !! 3d".split(" ")

HARD = [
    # parse_prompt_attention's own examples
    "normal text", "an (important) word", "(unbalanced", r"\(literal\]", "(unnecessary)(parens)",
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
    "", " ", "()", "[]", "(:1.2)", "(", ")", "[", "]", ":", "\\", "\\\\", "((", "))", "[[a", "a]]", "(a", "a)", "([a", "([a)b]c",
    "(cat:1.2)", "(cat:0)", "(cat:-1)", "(cat:+1.5)", "(cat:.5)", "(cat:2.)", "(cat: 1.3 )", "(cat :1.3)", "(cat:\u30001.3\u2003)", "(cat:1,3)",
    "(cat:1.2", "cat:1.2)", "[cat:1.2]", "[cat:1.2)", "(cat:1.2]", "[(cat:1.2)]", "(cat:x)", "(cat:)", "(cat:1e2)", "(cat:inf)", "(cat:0x2)", "(cat:1_0)", "(cat:- 1)", "(cat:1 2)", "(a:b:1.4)", "(a::1.4)", "((a:2):0.5)", "(a:1.2)(b:1.2)", "(a:1.0) b", "[a](b)[[c]]",
    "[a:b:0.5]", "[a:0.5]", "[a::0.5]", "[a|b]", "a AND b", "a AND b:1.2", "<lora:x:0.8> (a:1.1)", "a:b", "10:30 at (night:1.1)",
    r"\(a\) \[b\] \\c \d\ e", r"a\:b", r"(a\):1.2)", r"\\(a:1.3\\)", r"(a\\:1.3)", "wo(rd)s", "ca\\t", "it(')s", "(<|endof)text|>", "\\<|endoftext|>",
    "a BREAK b", "BREAK", "BREAK BREAK", "BREAK a", "a BREAK", "aBREAK b", "a_BREAK b", "a-BREAK-b", "éBREAK", "猫BREAK", "BREAK1", "a,BREAK,b", "break a", "aBREAKBREAKb", "BREAK\nBREAK BREAK a",
    "(a BREAK b)", "(a BREAK b:1)", "[(a BREAK b)]", "(a BREAK b:0)", "(a) BREAK [b] BREAK (c:1.5)", "a\\BREAK", "B\\REAK", "(B\\REAK:-1) a", "a (BREAK) b", "a:BREAK:b", "BRE(AK)",
    "a <|endoftext|> (b:1.3), c", "(<|endoftext|>:1.2)", "<|startoftext|> (a)", "hi! (there!!:0.7)", "(e\u0301 CAFÉ:1.2) e(\u0301)",
    # where chunks end
    "cat " * 74, "cat " * 75, "cat " * 76, "(cat:1.01) " * 76, "cat " * 74 + ",", "cat " * 75 + ",", "cat " * 75 + ", dog", "cat " * 74 + ", dog",
    "cat " * 55 + ", " + "dog " * 19, "cat " * 55 + ", " + "dog " * 20, "cat " * 54 + ", " + "dog " * 20, "cat " * 54 + ", " + "dog " * 21, "cat " * 60 + ", " + "(dog " * 30,
    "," * 80, ", " * 76, ", " * 160, "cat " * 75 + "BREAK dog", "cat " * 76 + "BREAK dog", "cat, " * 40 + "BREAK " + "dog, " * 40, "cat " * 70 + ", BREAK" + " dog" * 10, "cat " * 60 + ", dog " * 50 + "(x:1.4)", "cat " * 200,
    "a <|endoftext|> b " * 30, "!" * 100, "hi! " * 50,
]

def random_prompts(n):
    rng = random.Random(20240502)
    marks = ["(", ")", "[", "]", ":", "\\", "\\(", "\\]", ":1.2)", ":0.85)", ":.5)", ": 2 )", ":-1)", ":0)", "BREAK", " BREAK ", ","]
    out = []
    for i in range(n):
        length = rng.choice([5, 12, 30, 150])
        share = rng.choice([0.1, 0.3, 0.7])
        out.append("".join(rng.choice(marks) if rng.random() < share else rng.choice(WORDS) + rng.choice([" ", " ", ", ", ""]) for _ in range(length)))
    return out

def trimmed(values, fill):
    while values and values[-1] == fill:
        values = values[:-1]
    return values

def counted(weights):
    """[[weight, how often]]"""
    out = []
    for w in weights:
        if out and out[-1][0] == w:
            out[-1][1] += 1
        else:
            out.append([w, 1])
    return out

def main(path=f"{HERE}/weighted.json", n=60):
    tokenizers = {name: load(*FOLDERS[name]) for name in ("sd1", "sd2", "tiny", "tiny2")}
    prompts = list(dict.fromkeys(HARD + random_prompts(n)))
    line = lambda o: json.dumps(o, separators=(",", ":"))
    with open(path, "w") as f:
        f.write('{"runs":[\n')
        f.write(",\n".join(line({"prompt": p, "runs": parse(p)}) for p in prompts))
        f.write('],\n"chunks":[\n')
        cases = []
        for i, p in enumerate(prompts):
            for name, t in tokenizers.items():
                # the other folders for every fifth and what may hold special tokens
                if name == "sd1" or i % 5 == 0 or "<|" in p or (i < len(HARD) and "!" in p):
                    cases.append({"folder": name, "prompt": p, "chunks": [
                        {"ids": trimmed(ids, t.pad_token_id), "weights": counted(trimmed(weights, 1.0))}
                        for ids, weights in chunks(t, parse(p))]})
        f.write(",\n".join(map(line, cases)) + "]}\n")
    print(len(prompts), "prompts,", len(cases), "cases")

if __name__ == "__main__":
    main()
