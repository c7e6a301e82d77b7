package safety_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/imgus/worker/safety"
)

const words = `# what no picture here shall show
nude
naked
porn
gore
beheading
swastika
slut
sex
ass
torture
school shooting
blood bath
`

func parse(t testing.TB, text string) *safety.List {
	t.Helper()
	l, err := safety.ParseList([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// evasions are ways to write a word so that a reader knows it and a plain search
// does not.
var evasions = map[string]func(r *rand.Rand, word string) string{
	"case": func(r *rand.Rand, word string) string {
		return each(word, func(c rune) string {
			if r.IntN(2) == 0 {
				return strings.ToUpper(string(c))
			}
			return string(c)
		})
	},
	"zero width": func(r *rand.Rand, word string) string {
		return between(word, func() string {
			return pick(r, "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u180e", "\u034f", "\ufe0f", "")
		})
	},
	"control": func(r *rand.Rand, word string) string {
		return between(word, func() string { return pick(r, "\x00", "\x01", "\x7f", "\u202e", "\u2066", "") })
	},
	"accents": func(r *rand.Rand, word string) string {
		return each(word, func(c rune) string { return string(c) + pick(r, "\u0301", "\u0308", "\u0323", "\u0336", "\u0489", "") })
	},
	"accents, composed": func(r *rand.Rand, word string) string {
		return norm.NFC.String(each(word, func(c rune) string { return string(c) + pick(r, "\u0301", "\u0308", "\u0323", "") }))
	},
	"homoglyphs": func(r *rand.Rand, word string) string {
		return each(word, func(c rune) string { return oneOf(r, homoglyphs[c], c) })
	},
	"leet": func(r *rand.Rand, word string) string {
		at := r.IntN(len(word)) // one letter stays at least
		i := -1
		return each(word, func(c rune) string {
			if i++; i == at {
				return string(c)
			}
			return oneOf(r, leet[c], c)
		})
	},
	"spacing": func(r *rand.Rand, word string) string {
		space := pick(r, " ", "  ", ".", "-", "_", " . ", "*", "\u00a0", "\u2003", ", ", "/")
		return between(word, func() string { return space })
	},
	"signs": func(r *rand.Rand, word string) string {
		return between(word, func() string { return pick(r, signs...) })
	},
	"signs and spaces": func(r *rand.Rand, word string) string {
		sign := pick(r, signs...)
		return between(word, func() string { return " " + sign + " " })
	},
	"a sign": func(r *rand.Rand, word string) string {
		i := 1 + r.IntN(len(word)-1)
		return word[:i] + pick(r, signs...) + word[i:]
	},
	"a letter between": func(r *rand.Rand, word string) string {
		letter, space := pick(r, "x", "q", "z", "漢", "o", "ж"), pick(r, "", " ", "-")
		return between(word, func() string { return space + letter + space })
	},
	"digits between": func(r *rand.Rand, word string) string {
		space := pick(r, "", " ", "-")
		return between(word, func() string { return space + pick(r, digits...) + space })
	},
	"digits at the ends": func(r *rand.Rand, word string) string {
		for range 1 + r.IntN(3) {
			if r.IntN(2) == 0 {
				word = pick(r, digits...) + word
			} else {
				word += pick(r, digits...)
			}
		}
		return word
	},
	"doubled": func(_ *rand.Rand, word string) string {
		return each(word, func(c rune) string { return string(c) + string(c) })
	},
	"doubled twice": func(r *rand.Rand, word string) string {
		i := r.IntN(len(word) - 1)
		return word[:i+1] + word[i:i+2] + word[i+1:i+2] + word[i+2:]
	},
	"a hyphen": func(r *rand.Rand, word string) string {
		i := 1 + r.IntN(len(word)-1)
		return word[:i] + pick(r, "-", "_", ".", "'", "\u2010") + word[i:]
	},
	"fullwidth":    shifted('ａ'),
	"mathematical": shifted('𝐚'),
	"script":       shifted('𝓪'),
	"double":       shifted('𝕒'),
	"circled":      shifted('ⓐ'),
	"dark circles": shifted('🅐'),
	"squares":      shifted('🅰'),
	"flags":        shifted('🇦'),
	"small capitals": func(_ *rand.Rand, word string) string {
		return each(word, func(c rune) string {
			i := strings.IndexRune("abcdefghijklmnopqrstuvwxyz", c)
			return string([]rune("ᴀʙᴄᴅᴇғɢʜɪᴊᴋʟᴍɴᴏᴘqʀꜱᴛᴜᴠᴡxʏᴢ")[i])
		})
	},
	"drawn out": func(r *rand.Rand, word string) string {
		at := r.IntN(len(word))
		return word[:at] + strings.Repeat(word[at:at+1], 3+r.IntN(5)) + word[at+1:]
	},
	"weights": func(r *rand.Rand, word string) string {
		i := 1 + r.IntN(len(word)-1)
		return fmt.Sprintf(pick(r, "(%s:1.2)%s", "(%s)%s", "[%s]%s", "((%s))%s", "%s(%s:0.9)", "(%s :1.1 )%s", `%s\%s`), word[:i], word[i:])
	},
}

// signs may stand for letters, or between them.
var signs = strings.Split("+ ! $ @ | ¢ € ¡ £ ¥ ❤ 👍 ☀ ★ 👍🏽 ➕ °", " ")

var digits = strings.Split("0123456789", "")

var homoglyphs = map[rune]string{
	'a': "аαＡΑ𝒶ɑ", 'b': "ЬᏏвВΒ", 'c': "сϲⅽС", 'd': "ԁⅾᏧ", 'e': "еЕΕ℮ҽ", 'g': "ɡցԌ", 'h': "һНΗհ", 'i': "іΙІｉⅰ¡", 'k': "κКΚк", 'l': "ⅼӏІ∣",
	'n': "ոΝɴη", 'o': "оοОΟօ०", 'p': "рρРΡ", 'r': "гᎡⲅ", 's': "ѕЅꜱ", 't': "τтТΤ", 'u': "υսᴜ", 'w': "ѡԝᴡ", 'x': "хХΧх",
}

var leet = map[rune]string{'a': "4@", 'b': "8", 'e': "3€", 'g': "96", 'i': "1!|", 'l': "1|", 'o': "0", 's': "5$", 't': "7+"}

func each(word string, f func(rune) string) string {
	var out strings.Builder
	for _, c := range word {
		out.WriteString(f(c))
	}
	return out.String()
}

func between(word string, f func() string) string {
	var out strings.Builder
	for i, c := range word {
		if i > 0 {
			out.WriteString(f())
		}
		out.WriteRune(c)
	}
	return out.String()
}

func pick(r *rand.Rand, from ...string) string { return from[r.IntN(len(from))] }

func oneOf(r *rand.Rand, from string, otherwise rune) string {
	if from == "" {
		return string(otherwise)
	}
	return string([]rune(from)[r.IntN(len([]rune(from)))])
}

func shifted(to rune) func(*rand.Rand, string) string {
	return func(_ *rand.Rand, word string) string {
		return each(word, func(c rune) string { return string(to + c - 'a') })
	}
}

// Of the evasions at least 95 of 100 are caught, of each kind as well.
func TestEvasions(t *testing.T) {
	list := parse(t, words)
	frames := []string{"%s", "a portrait of a %s woman", "masterpiece, %s, best quality", "(%s)", "\"%s!\"", "%s, 8k, 1girl", "the:%s"}
	all, caught := 0, 0
	for name, evade := range evasions {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2)) // the same tests each time
			missed, tried := []string{}, 0
			for line := range strings.Lines(words) {
				word := strings.TrimSpace(line)
				if strings.HasPrefix(word, "#") || strings.ContainsFunc(word, unicode.IsSpace) {
					continue
				}
				for _, frame := range frames {
					prompt := fmt.Sprintf(frame, evade(r, word))
					if tried++; !list.Refuses(prompt) {
						missed = append(missed, prompt)
					}
				}
			}
			all, caught = all+tried, caught+tried-len(missed)
			if 20*len(missed) > tried {
				t.Errorf("missed %d of %d: %+q", len(missed), tried, missed)
			}
		})
	}
	t.Logf("%d of %d caught", caught, all)
	if all < 500 || 100*caught < 95*all {
		t.Errorf("%d of %d caught", caught, all)
	}
}

// What docs/safety.md says passes, and what it says is refused.
func TestKnownToPass(t *testing.T) {
	list := parse(t, words+"god\ngirl\nss\n")
	for _, prompt := range []string{
		"nudee", "nudegirl", "n u de", "nu/de", "n 12 u 12 d 12 e", "n x u y d z e", "edun", "nde", "pen is", "K-5, K-7, K-3", "good",
	} {
		if list.Refuses(prompt) {
			t.Errorf("refused: %s", prompt)
		}
	}
	for _, prompt := range []string{"1girl", "ss64"} {
		if !list.Refuses(prompt) {
			t.Errorf("passed: %s", prompt)
		}
	}
}

// What was once missed is found every time, not only in most frames.
func TestSeparators(t *testing.T) {
	list := parse(t, words)
	for _, prompt := range []string{
		"n+u+d+e", "n!u!d!e", "n$u$d$e", "n@u@d@e", "n|u|d|e", "n | u | d | e", "n+u!d$e", "n ! u + d @ e", "n! u! d! e!", "!n !u !d !e",
		"n❤u❤d❤e", "n 👍 u 👍 d 👍 e", "n❤❤u👍d ❤ e", "nu❤de", "nu+de", "wow!nude", "cat|nude", "nude👍", "$|l|u|7", "n+u+d+3", "n|u|d|€",
		"n x u x d x e", "x n x u x d x e x", "nxuxdxe", "n-x-u-x-d-x-e", "n漢u漢d漢e", "axsxs",
		"n 1 u 1 d 1 e", "n1u1d1e", "n1u2d3e", "n1u2d3e4", "n-1-u-2-d-3-e", "n 1 u 1 d 1 3",
		"nude2", "2nude", "!nude", "18nude18", "nud3!2", "$lut2", "2$lut", "5ex69", "school2 shooting3", "nude-2", "n-u-d-e2",
		"nnuuddee", "nnuude", "nuudde", "nnuudd33", "n-n-u-u-d-d-e-e", "nnnuude", "aassss", "aasss", "ggorree",
	} {
		for _, frame := range []string{"%s", "a portrait of a %s, 8k", "(%s:1.2) b c"} {
			if text := fmt.Sprintf(frame, prompt); !list.Refuses(text) {
				t.Errorf("passed: %s", text)
			}
		}
	}
}

func TestInnocentPrompts(t *testing.T) {
	// Words that ordinary ones are close to: good, 4k 4k 4k, 2x 3x 4x, H2O.
	list := parse(t, words+"god\nkkk\nxxx\nho\npenis\ntit\ncum\nhel\npee\n")
	for line := range strings.Lines(innocent) {
		if prompt := strings.TrimSpace(line); list.Refuses(prompt) {
			t.Errorf("refused: %s", prompt)
		}
	}
}

const innocent = `
a large yellow star on a purple background
a town hall in Scunthorpe, Essex, in Sussex style
an assassin in a classic glass passage, assembled masses
the therapist and the grapes of wrath, bass guitar, grass, brass
a pen is mightier than a sword, photo of a pen, is it real?
school of fish, shooting stars, blood orange in a bath
a mid-century house, state-of-the-art, well-lit, ultra-detailed, high-res
455 pixels, 1girl, 2boys, 8k, 4k, f/1.8, 35mm, ISO 100, 50 mm, 0.5x
(masterpiece:1.2), (best quality), [blurry], highly detailed, 8k uhd, dslr
portrait of an elderly man, rim light, bokeh, 85mm, sharp focus
a nudge, denuded hills, a nudibranch in the sea, gorey? gorgeous gorges
torturous winding road, a tortoise, tortured? no: tourists
a unisex barber, sextant on a ship, sextet playing, sussex cattle
i am a student, a b c d letters on a board, x y z axes
S U N rising, U.S.A. flag, F.B.I. agent, A-Z index, J.R.R. Tolkien
un âne dans la forêt, pâté en croûte, déjà vu, garçon, naïve
ein Reh am Fluß, große Straße, Mädchen, süß
красивый закат над морем, портрет девушки, кот на окне
夕焼けの海、美しい風景、猫と少女
美丽的风景,山水画,一只猫
ภาพวาดแมวบนหน้าต่าง
صورة جميلة للبحر
נוף יפה של הים
a c3po robot, r2d2, 3d render, 4th of july, 7up can, g8 summit
100$ bill, 50€ note, 5+5, a|b, wow!!!, hello!
😀 🎉 a party with balloons 🎈
cyberpunk street, neon, rain, reflections, by night --ar 16:9
a slot machine, slat fence, slit lamp
Dr. Assad, Nakedah? Nakajima, Pornic in France, Porno? no: Pomegranate
[from:to:0.5] (a cat:0.9) in (a hat)
a 4k, 8k, 16k picture, 4k 4k 4k, in 3d, 2b or not 2b, 2x 3x 4x zoom, 1990s, 80's, 1920x1080, f/1.8, 1/60 s, 4:3, 24mm x 36mm
C++, C#, F# and g++ on a screen, a + b = c, x = y + 1, R|G|B, a|b|c, a+b+c, 3x3x3 cube, 2 x 4 x 5, 4 x 5 x 5 cm
a! b! c!, 1! 2! 3!, wow! a pen! is it? yes!!! Yahoo! $5 & $10, 50% off, me@home, 10€, £5
H2O, CO2, C6H12O6, H2SO4, mp3, mp4, S01E02, B2B, IEEE-P1363, G20, K-5, K-7, K-r and K-3 by Pentax, Kukuk, Route 66, Boeing 747, R2-D2, C-3PO, 7-11, 9/11 memorial, WW2, PS5, 5G
❤ a 👍 b 👍 c ❤ d, love ❤ you, a sun☀flower, pizza🍕party, 🌊 sea 🌊 sky 🌊, ★★★★★, 5★ hotel, 20°C, a © b ® c ™
good food, a good goddess, coffee and a tattoo, balloons, Mississippi, success, hello, bookkeeping, a bassoon, to assess, to possess
a banana, papaya in the Sahara, a radar level, civic robot, kayak, savanna, vivid colors, canal, seven rotors, a 1 b 1 c 1 d
masterpiece++, best quality+, (blurry)-, cat AND dog, trending on artstation, 1girl, solo, 2girls, 3boys, no. 1, v1.5, sdxl1.0
item 1 a, item 2 s, item 3 b; a x b x c, 2 m x 3 m x 4 m; vitamin A, B1, B2, B6, B12; size S, M, L, XL, XXL; A4, A3 paper
`
