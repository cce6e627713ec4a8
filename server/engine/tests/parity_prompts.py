"""Prompts chosen to break tokenizers. Shared by the recorder and compare_with_diffusers.py."""

LONG_PROMPT = (
    "an extremely detailed painting of a harbour at dusk, wooden boats with red and yellow sails, "
    "lanterns reflected in still dark water, gulls over the mole, a lighthouse on a cliff, thin clouds "
    "lit from below, fishermen mending nets, baskets of silver fish, cobblestones wet with rain, "
    "a cat asleep on a coil of rope, an old woman selling oranges, smoke from chimneys, distant "
    "mountains in blue haze, soft brush strokes, warm palette, high contrast, masterful composition, "
    "and at the very end a green bicycle that nobody will ever see"
)
UNICODE_PROMPT = "Ein Café in Zürich — naïve Malerei, 日本の山と海, Москва зимой, 🐱🚀 señor Ångström"

PROMPTS = [
    "a photo of a cat",
    "",
    " ",
    "\n\t  \r\n",
    "A RED Circle",
    "a   red\t\tcircle\n\non  blue ",
    "  leading and trailing   ",
    "a\u00a0b\u2003c\u3000d",  # no-break, em and ideographic spaces
    "a\u200bb\u200dc\ufeffd",  # zero-width space, joiner, byte-order mark
    "a\u0000b\u0007c\u001fd",  # control characters
    "line one\u2028line two\u2029end\u0085x",  # Unicode line breaks
    "hello, world! (really?) [yes] {no}; 'quoted' \"double\" — dash… end.",
    "!!!",
    "! a ! b!c !!!! d!",
    "!",
    "?!?!?!...,,,;;;---___***",
    "don't can't we're they've I'm she'll he'd it's 'tis rock'n'roll",
    "DON'T CAN'T WE'RE IT'S",
    "don’t it’s — typographic apostrophes ‘here’ “and here”",
    "'s 't 're 've 'm 'll 'd",
    "x's's't'll",
    "1234567890 3.14159 1,000,000 2x4 4k 8K uhd 1:2.5",
    "١٢٣ ४५६ Ⅷ ½ ² ₃ ① 12345",  # digits that are not ASCII
    "(masterpiece:1.2), [[bad]], best quality, ((sharp))",
    "<lora:style:0.8> by artist_name, 8k_uhd, img_0001.jpg",
    "&amp; &lt;b&gt; &quot;x&quot; &#39; &nbsp; &eacute;",
    "<|endoftext|>",
    "<|startoftext|>",
    "a<|endoftext|>b",
    "before <|endoftext|> after <|startoftext|> end",
    "<|EndOfText|> <|ENDOFTEXT|>",
    "<|endoftext |> <| endoftext|> <|endoftext|",
    "</w> a</w> <w>",
    "café naïve Zürich señor Ångström",  # composed
    "cafe\u0301 nai\u0308ve Zu\u0308rich A\u030angstro\u0308m",  # the same, decomposed
    "e\u0301\u0323 o\u0302\u0301\u0323 z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f",  # stacked marks
    "ﬁne ﬂow ﬀ ＦＵＬＬＷＩＤＴＨ ｔｅｘｔ ℌ ™ №",  # compatibility forms stay (NFC, not NFKC)
    "\u212b \u2126 \u1e9b\u0323 \uac00\u1100\u1161",  # singletons NFC replaces; Hangul syllable and jamo
    "İstanbul ISTANBUL ıi STRASSE straße ẞ ΣΊΣΥΦΟΣ ς Ǆ ǅ",  # lowercasing that changes length or context
    "日本の山と海、桜の花。富士山！",
    "中文提示词：一只猫坐在窗台上",
    "한국어 고양이 그림",
    "日本 a 日本b cat猫dog",
    "Москва зимой, Київ влітку, Ёлка",
    "قطة جميلة في الحديقة، ١٢٣",
    "חתול יפה בגינה \u202bRTL\u202c \u200fx",
    "แมวน่ารัก สวัสดี",
    "नमस्ते दुनिया बिल्ली क्षत्रिय",
    "🐱",
    "🐱🚀✨ a cat 🐱 rocket🚀",
    "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪 1️⃣ ❤️ ☺",
    "𝒜 𝔹𝕠𝕝𝕕 𐍈 𠜎 😀",
    "\ud7ff\ue000\ufffd\U0010ffff\ufffe",
    "a_b-c/d\\e|f~g`h^i@j#k$l%m&n*o+p=q<r>s",
    "https://example.org/a?b=c&d=e#f user@example.org",
    "snake_case camelCase kebab-case CONSTANT_CASE",
    "ça coûte 10€, £5, ¥100, ₹50, ₿1",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "ha" * 60,
    "word " * 74 + "last",  # exactly 75 tokens between the marks
    "word " * 75 + "cut",
    "word " * 73 + "almost",
    "! " * 80,
    "🐱" * 60,
    LONG_PROMPT,
    LONG_PROMPT.upper(),
    UNICODE_PROMPT,
    UNICODE_PROMPT + " " + LONG_PROMPT,
    "<|endoftext|>" * 90,
    "x" * 5000,
    "\u0301",
    "a\u0301" * 50,
    "the quick brown fox, jumps over the lazy dog",
]
