"""Writes golden.json: ids by the reference, the fast CLIP tokenizer of
transformers 4.57 (pip install transformers==4.57.6; no torch needed).

    python golden.py

merges.txt.gz is CLIP's merges.txt (openai/clip-vit-large-patch14); vocab.json
follows from it. tiny/ is the vocabulary of 632 entries of a test model.
"""
import gzip, hashlib, json, os, random, shutil, tempfile, unicodedata
from transformers import CLIPTokenizerFast

HERE = os.path.dirname(os.path.abspath(__file__))

# --- folders -----------------------------------------------------------------

def token(content, normalized=True, **more):
    return {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False, **more}

BOS, EOS = token("<|startoftext|>"), token("<|endoftext|>")
SPECIAL = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": "<|endoftext|>"}
CONFIG = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}

# name: (vocabulary, the JSON files beside it)
FOLDERS = {
    "sd1": ("clip", {
        "tokenizer_config.json": CONFIG | {k: dict(v, __type="AddedToken") for k, v in SPECIAL.items() if k != "pad_token"},
        "special_tokens_map.json": SPECIAL}),
    "sd2": ("clip", {  # the map overrides the config: pad is "!"
        "tokenizer_config.json": CONFIG | {"pad_token": "<|endoftext|>"},
        "special_tokens_map.json": SPECIAL | {"pad_token": "!"}}),
    "bare": ("clip", {}),
    "decoder": ("clip", {  # with a decoder the map counts for nothing
        "tokenizer_config.json": CONFIG | {"pad_token": "!", "added_tokens_decoder": {
            "0": token("!", False, special=True),
            "49408": token("<cat-toy>", special=False), "49409": token("<Dog>", False, special=False),
            "49410": token("<Dog>s", False, special=False)}},
        "special_tokens_map.json": {"pad_token": "#"}}),
    "added": ("clip", {
        "tokenizer_config.json": CONFIG,
        "special_tokens_map.json": {"additional_special_tokens": ["<Dog>"]},
        "added_tokens.json": {"<cat-toy>": 49408, "<Dog>": 49409}}),
    "tiny": ("tiny", {
        "tokenizer_config.json": CONFIG | {"pad_token": "<|endoftext|>", "bos_token": "<|startoftext|>",
            "added_tokens_decoder": {"630": dict(BOS, special=True), "631": dict(EOS, special=True)}},
        "special_tokens_map.json": SPECIAL}),
    "tiny2": ("tiny", {
        "tokenizer_config.json": CONFIG | {"pad_token": "!", "added_tokens_decoder": {
            "0": token("!", False, special=True), "630": dict(BOS, special=True), "631": dict(EOS, special=True)}},
        "special_tokens_map.json": SPECIAL | {"pad_token": "!"}}),
}

def clip_vocabulary(merges):
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(b) for b in kept] + [chr(256 + i) for i in range(256 - len(kept))]
    tokens = symbols + [s + "</w>" for s in symbols]
    tokens += [line.replace(" ", "") for line in merges.strip().split("\n")[1:]]
    return {t: i for i, t in enumerate(tokens + ["<|startoftext|>", "<|endoftext|>"])}

def load(vocabulary, files):
    with tempfile.TemporaryDirectory() as d:
        if vocabulary == "clip":
            merges = gzip.open(f"{HERE}/merges.txt.gz", "rt", encoding="utf-8").read()
            open(f"{d}/merges.txt", "w", encoding="utf-8").write(merges)
            json.dump(clip_vocabulary(merges), open(f"{d}/vocab.json", "w"))
        else:
            for name in ("vocab.json", "merges.txt"):
                shutil.copy(f"{HERE}/{vocabulary}/{name}", d)
        for name, content in files.items():
            json.dump(content, open(f"{d}/{name}", "w"))
        return CLIPTokenizerFast.from_pretrained(d)

# --- texts -------------------------------------------------------------------

HARD = """a photo of a cat¦A Photo Of A CAT¦an astronaut riding a horse on mars, highly detailed, 8k, trending on artstation
a¦I¦'¦''¦"¦.¦...¦!¦!!!¦?!?!¦hello!!!¦wow!!! such, very... much¦a,b;c:d¦(masterpiece:1.2), [bad], {best}¦a_b-c+d=e*f/g\\h¦~`@#$%^&*
<p>¦<b>bold</b>¦&amp;¦&lt;3¦&quot;quoted&quot;¦&#39;¦&nbsp;x¦cat &amp;amp; dog¦&eacute;¦AT&T¦R&B¦Q&A
it's¦IT'S¦It'S¦can't¦CAN'T¦we're¦I've¦I'm¦they'll¦he'd¦o'clock¦rock'n'roll¦'tis¦''s¦'s¦'S¦'sup¦s's's¦'ll've¦'lll¦d'd¦'reader¦it’s¦it‘s¦“quoted”¦„unten“¦‚x‘¦«guillemets»¦it´s¦it`s¦it＇s
0¦42¦2024¦3.14159¦1,000,000¦1e10¦4k 8K¦4k8K16k¦x86_64¦１２３¦²³¹¦½ ⅓¦Ⅷ ⅷ¦①②③¦٣٤٥¦१२३¦一二三¦𝟘𝟙𝟚¦7°C¦#1¦1st 2nd 3rd¦$9.99¦50%
café¦CAFÉ¦cafe\u0301¦CAFE\u0301¦naïve façade¦Ångström¦A\u030Angstro\u0308m¦Å¦ÅÅÅ¦ñandú¦Dvořák¦Łódź¦Đorđe¦ŒUVRE œuvre¦Æther¦straße STRASSE ẞ¦þorn Þ ð Ð¦ﬁﬂ ligatures ﬀ¦ﬃ¦ĳ Ĳ¦ǆ ǅ Ǆ¦ŉ¦K Å Ω¦\u212A¦İstanbul¦ISTANBUL ıI iİ¦İİ¦i\u0307¦I\u0307¦Σίσυφος¦ΣΑΣ¦ὈΔΥΣΣΕΎΣ¦ᾳ ᾼ¦ά ά¦Ελλάδα¦Привет, мир¦МОСКВА ЁЖ¦ё Ё¦і\u0308¦й¦ЙОГУРТ¦العربية¦مَرْحَبًا¦שלום¦שָׁלוֹם¦שׁ¦हिन्दी¦नमस्ते¦क़¦ড়¦ไทย¦ภาษาไทย¦ქართული¦ᲥᲐᲠᲗᲣᲚᲘ¦Հայերեն¦ԵՒ և¦ᎣᎾ Ꭳ ꭳ¦አማርኛ¦தமிழ்¦བོད་¦မြန်မာ
日本語¦東京タワー¦ひらがな カタカナ¦ｶﾀｶﾅ ﾊﾝｶｸ¦が か\u3099 が¦中文字符¦一隻貓坐在墊子上¦猫cat猫¦貓，狗。¦「」『』¦한국어¦\u1112\u1161\u11ab\u1100\u1173\u11af¦각 각¦ㄱㅏ¦\uF900\uFA0E 﨎¦𠀀𠮷¦ＦＵＬＬ ＷＩＤＴＨ¦㌔ ㍿ ㊗¦〇 々 〆¦ー—–-
😀¦😀😀😀¦a😀b¦❤️¦❤¦👍🏽¦👨‍👩‍👧‍👦¦🏳️‍🌈¦🇩🇪🇫🇷¦1️⃣ #️⃣¦☃ ★ ♥¦✨beautiful✨ sunset🌅¦🤷🏻‍♀️¦:) :-( ;P¦¯\\_(ツ)_/¯¦(╯°□°）╯︵ ┻━┻¦→ ⇒ ≠ ≤ ∞¦=\u0338 ≠¦>\u0338¦<\u0338¦©®™¦€£¥₿¦§¶†‡¦•·●¦№¦µ μ¦ª º
<|endoftext|>¦<|startoftext|>¦a <|endoftext|> b¦a<|endoftext|>b¦<|ENDOFTEXT|>¦<|EndOfText|> x¦<|endoftext|><|endoftext|>¦<|endoftext|>\u0338¦< |endoftext|>¦<|endoftext|<|endoftext|>¦<||endoftext||>¦<|endoftext|>'s¦x'<|endoftext|>'s¦<|startoftext|>a cat<|endoftext|>¦<cat-toy>¦a <cat-toy> on a <Dog>¦<CAT-TOY> <dog>¦<Dog>s<Dog><Dog>ss¦!<Dog>!¦hi! there!!¦!\u0301¦e!\u0301¦endoftext¦[PAD] [UNK] <unk> <pad>"""

def hard_texts():
    texts = [""] + [t for line in HARD.split("\n") for t in line.split("¦")]
    texts += [
        " ", "   ", "\n", "\t\r\n", " a ", "a  b", "a\tb\nc\r\nd", "a\u00a0b", "a\u3000b", "a\u2003b\u2009c", "a\u0085b", "a\u2028b\u2029c", "a\u1680b",
        "a\u200bb", "a\u200db", "a\ufeffb", "\ufeffa", "a\u00adb", "a\u180eb", "a\u2060b", "\u202ea\u202c", "a\u2007b\u202fc",
        "\0", "a\0b", "\x01\x02\x03", "a\x07b", "\x1b[31mred", "\x7f", "a\x1cb\x1db\x1eb\x1fb", "a\x0bb\x0cb", "\x80\x9f", "\ufffd", "\ufffe\uffff", "\ue000\uf8ff", "\U000e0001\U000e0041", "\U0010ffff", "\u0378",
        "\u0301", "\u0301a", "a\u0301\u0302\u0303", "a\u0323\u0307", "a\u0307\u0323", "s\u0323\u0307 \u1e9b\u0323", "q\u0307\u0323", "e" + "\u0301" * 29, "e" + "\u0301" * 30, "e" + "\u0301" * 31, "Z" + "\u0335\u0301\u0323" * 40 + "algo", "\u0344 \u0340 \u0341 \u0343 \u2126",
        "\u0958 \u09dc \u0a33 \u0f43 \u2adc", "\u1100\u1161\u11a8\u11a8", "\uac00\u11a7", "\uac00\u11a8", "\u0b47\u0300\u0b3e", "\u1100\u0300\u1161", "\u0cc6\u0cc2\u0cd5", "\u30ab\u3099", "\u05e9\u05bc\u05c1",
        "ẠẢẤẦẨẪẬ Tiếng Việt", unicodedata.normalize("NFD", "ẠẢẤẦẨẪẬ Tiếng Việt, Ünïcödé Ñ 한국어"), "\U0002ebf0\U0002ebf1a", "\U00010d50\U00010d40", "\ua7cb\ua7dc", "\U00016ea0",
        "supercalifragilisticexpialidocious", "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "lololololololololololol", "abcdefghijklmnopqrstuvwxyz" * 20, "hahahaha" * 50, "!" * 200, "?!" * 90, "9" * 80, "😀" * 60, "漢" * 100, "-" * 77 + "=" * 40,
        "a photo of " * 30, "cat " * 74, "cat " * 75, "cat " * 76, "cat " * 77, "cat " * 500, "cat " * 74 + "<|endoftext|>" + " dog",
        "https://example.com/a?b=c&d=%20e#f", "user@example.com", "C:\\Users\\x\\y.png", "{\"json\": [1, null]}", "SELECT * FROM t;--", "<script>alert('x')</script>", "${jndi:ldap://x}", "%s %d %n", "../../etc/passwd",
        "oil painting, by Vincent van Gogh::1.5 --ar 16:9 --v 5", "<lora:style:0.8> portrait", "a:b:0.5 AND c BREAK d", "ultra-realistic, f/1.8, 85mm, ISO100, 1/200s",
    ]
    return list(dict.fromkeys(texts))

def random_texts(n):
    rng = random.Random(20240501)
    alphabets = [
        [chr(c) for c in range(32, 127)],
        list("aAeEiI'sStTrRvVmMlLdD  0123.,!"),
        [chr(c) for c in range(0xa0, 0x250)],
        [chr(c) for c in [*range(0x300, 0x370), *range(0x41, 0x7b)]],
        [chr(c) for c in [*range(0x370, 0x530), 32, 32]],
        [chr(c) for c in [*range(0x900, 0xc00), *range(0x1100, 0x1200), 32]],
        [chr(c) for c in [*range(0x2000, 0x2c00), 97, 98]],
        [chr(c) for c in [*range(0x3000, 0x3100), *range(0x4e00, 0x4f00), *range(0xac00, 0xac80), *range(0x11a8, 0x11c3)]],
        [chr(c) for c in [*range(0x1f300, 0x1f700), 0x200d, 0xfe0f]],
        ["<|endoftext|>", "<|startoftext|>", "<Dog>", "<cat-toy>", "!", "'s", "'", "<", "|", " ", "a", "\u0338"],
        [chr(c) for c in range(0x110000) if not 0xd800 <= c < 0xe000],
    ]
    return ["".join(rng.choice(alphabets[i % len(alphabets)]) for _ in range(rng.randint(1, 24))) for i in range(n)]

def every_code_point(t):
    """A digest over the class and the normalised form of each code point."""
    split, digest = t.backend_tokenizer.pre_tokenizer.pre_tokenize_str, hashlib.sha256()
    normalize = t.backend_tokenizer.normalizer.normalize_str
    for cp in range(0x110000):
        if 0xd800 <= cp < 0xe000:
            continue
        c = chr(cp)
        words = [tuple(span) for _, span in split(f"a{c}1{c}!{c}")]
        if (0, 2) in words:
            kind = "letter"
        elif (3, 6) in words:
            kind = "other"
        else:
            kind = "number" if (1, 2) in words else "space"
        digest.update(f"{cp:x} {kind} {normalize(c).encode().hex()}\n".encode())
    return digest.hexdigest()

# --- golden.json ---------------------------------------------------------------

def main():
    tokenizers = {name: load(*folder) for name, folder in FOLDERS.items()}
    cases, hard = [], hard_texts()
    for i, text in enumerate(hard + random_texts(300)):
        for name, t in tokenizers.items():
            # every text with CLIP's vocabulary, the hard ones with the tiny one too,
            # and what may hold added tokens with every folder
            if name == "sd1" or (name == "tiny" and i < len(hard)) or "<" in text or "!" in text[:20]:
                cases.append({"folder": name, "text": text, "ids": t(text, add_special_tokens=False).input_ids})
    prompts = []
    for text in ["", "a cat", "cat " * 74, "cat " * 75, "cat " * 76, "a <|endoftext|> b", "hi! there"]:
        for name, t in tokenizers.items():
            ids = t(text, padding="max_length", max_length=77, truncation=True).input_ids
            prompts.append({"folder": name, "text": text, "ids": ids})
    folders = {name: {"vocabulary": v, "files": f, "ids": [t.bos_token_id, t.eos_token_id, t.pad_token_id], "size": len(t)}
               for (name, (v, f)), t in zip(FOLDERS.items(), tokenizers.values())}
    with open(f"{HERE}/golden.json", "w") as f:
        line = lambda o: json.dumps(o, separators=(",", ":"))
        f.write('{"every_code_point":%s,\n"folders":{\n' % line(every_code_point(tokenizers["sd1"])))
        f.write(",\n".join(f"{line(k)}:{line(v)}" for k, v in folders.items()))
        f.write('},\n"cases":[\n' + ",\n".join(map(line, cases)))
        f.write('],\n"prompts":[\n' + ",\n".join(map(line, prompts)) + "]}\n")
    print(len(cases), "cases,", len(hard), "hard texts")

if __name__ == "__main__":
    main()
