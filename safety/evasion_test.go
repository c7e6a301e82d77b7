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

func TestInnocentPrompts(t *testing.T) {
	list := parse(t, words)
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
`
