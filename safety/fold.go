package safety

import (
	"strings"
	"unicode"

	"github.com/mtibben/confusables"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// stroke stands for a character that looks like i, l, 1 and a bar alike.
const stroke = '|'

// fold gives a text as its reader sees it, in as few characters as can be: one
// case, no compatibility forms (fullwidth, mathematical, circled), no accents,
// nothing invisible, and Latin letters for what looks like them. White space
// becomes spaces. Both the list and the prompts are folded.
func fold(text string) string {
	var out strings.Builder
	runes := []rune(norm.NFKD.String(text))
	for i, r := range runes {
		switch {
		case unicode.IsSpace(r):
			out.WriteByte(' ')
		case invisible(r) || accent(r):
		case r == 'I' && i > 0 && i+1 < len(runes) && unicode.IsLower(runes[i-1]) && unicode.IsLower(runes[i+1]):
			out.WriteRune(stroke) // nobody writes an i so, but an l looks like it
		default:
			out.WriteRune(latin(r))
		}
	}
	// What NFKD took apart beside accents (Hangul, voiced kana) is put together.
	return norm.NFC.String(cases.Fold().String(out.String()))
}

// invisible are the characters that leave no mark, wherever they stand.
func invisible(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// accent are the marks that go with the letters of any script, and those of the
// scripts that Latin is confused with; so not the vowel signs of Thai or
// Devanagari, nor the voice marks of kana, which make another letter.
func accent(r rune) bool {
	return unicode.In(r, unicode.Mn, unicode.Me) && unicode.In(r, unicode.Inherited, unicode.Cyrillic, unicode.Greek, unicode.Latin) && r != '\u3099' && r != '\u309a'
}

// latin gives the Latin letter that a character looks like, in lower case; most
// others stay. What a letter looks like is Unicode's list (UTS 39, confusables),
// asked for the letter as it stands and then in lower case.
func latin(r rune) rune {
	for _, r := range []rune{r, unicode.ToLower(r)} {
		if r < unicode.MaxASCII {
			return unicode.ToLower(r)
		}
		if l, ok := lookalike(r); ok {
			return l
		}
	}
	return r
}

func lookalike(r rune) (rune, bool) {
	for _, alphabet := range []struct{ first, last rune }{{'🇦', '🇿'}, {'🅐', '🅩'}, {'🅰', '🆉'}} {
		if alphabet.first <= r && r <= alphabet.last {
			return 'a' + r - alphabet.first, true
		}
	}
	if l, ok := lookalikes[r]; ok {
		return l, true
	}
	switch same := confusables.Skeleton(string(r)); {
	case same == "l": // a bar, of which the list says no more
		return stroke, true
	case same == "rn": // how the list writes m
		return 'm', true
	case len(same) == 1 && same[0] < unicode.MaxASCII && (unicode.IsLetter(rune(same[0])) || unicode.IsDigit(rune(same[0]))):
		return unicode.ToLower(rune(same[0])), true
	default:
		return r, false
	}
}

// lookalikes are those that Unicode's list does not have, since a careful reader
// tells them apart: small capitals, and what resembles a letter in both cases.
var lookalikes = func() map[rune]rune {
	table := map[rune]rune{}
	for _, pair := range []struct{ from, to string }{
		{"ᴀʙᴄᴅᴇғꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ", "abcdeffghijklmnoprstuvwyz"},
		{"вікмнтѕєзьԁґ", "bikmhtse3bdr"},   // Cyrillic
		{"βεηικμντυχωζδ", "benikmvtuxwzd"}, // Greek
		{"łøđħŧɓɗɠƙɲƞƥȿƭʋʐıȷɩ", "lodhtbdgknnpstvziji"},
		{"ӏӀ", "||"},
	} {
		to := []rune(pair.to)
		for i, r := range []rune(pair.from) {
			table[r] = to[i]
		}
	}
	return table
}()
