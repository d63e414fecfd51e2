"""Words of captions: names of garments, and clauses for each attribute value."""

from __future__ import annotations

from types import MappingProxyType

# Other words that people use for a kind; the first is the plainest.
WORDS = MappingProxyType(
    {
        "long sleeved top": ("long sleeved top", "long sleeved top", "top with long sleeves"),
        "button up shirt": ("button up shirt", "shirt", "shirt with buttons"),
        "t-shirt": ("t-shirt", "t-shirt", "tee"),
        "polo shirt": ("polo shirt", "polo shirt", "polo"),
        "tank top": ("tank top", "tank top", "sleeveless top"),
        "sweater": ("sweater", "sweater", "knitted sweater"),
        "kurta": ("kurta", "kurta", "long tunic"),
        "pants": ("pants", "trousers", "pants"),
        "shoes": ("shoes", "casual shoes", "sneakers"),
        "formal shoes": ("formal shoes", "dress shoes"),
        "heels": ("heels", "high heels"),
        "cap": ("cap", "cap", "baseball cap"),
        "handbag": ("handbag", "handbag", "bag with handles"),
    }
)
HINTS = MappingProxyType(
    {
        "t-shirt": ("has short sleeves and no collar", "is a simple tee"),
        "long sleeved top": ("has sleeves down to the wrist", "covers the arms"),
        "tank top": ("has no sleeves", "leaves the arms bare"),
        "hoodie": ("has a hood", "comes with a hood and a pocket"),
        "sweater": ("is knitted and warm", "looks like knitwear"),
        "button up shirt": ("has a collar and buttons all the way down", "buttons up the front"),
        "polo shirt": ("has a collar and a few buttons", "is a sporty shirt with a collar"),
        "jacket": ("is made for the outdoors", "is something to put over a shirt"),
        "blazer": ("has lapels", "is more formal with lapels"),
        "dress": ("is one piece with a skirt", "is a full dress"),
        "skirt": ("is only worn from the waist down", "starts at the waist"),
        "kurta": ("is a long tunic", "is a tunic that reaches the knees"),
        "pants": ("has full legs", "covers the whole leg"),
        "jeans": ("is made of denim", "is denim with pockets"),
        "shorts": ("has short legs", "leaves the lower legs bare"),
        "shoes": ("is closed with laces", "is sporty footwear"),
        "formal shoes": ("is elegant footwear for a suit", "is polished leather"),
        "sandals": ("has straps and open toes", "is open footwear"),
        "flip flops": ("is for the beach", "is easy to slip on"),
        "heels": ("has a high heel", "lifts the heel"),
        "boots": ("goes over the ankle", "is taller and covers the ankle"),
        "handbag": ("is carried by its handles", "has handles"),
        "backpack": ("is worn on the back", "has two shoulder straps"),
        "wallet": ("fits in a pocket", "is small and flat"),
        "hat": ("goes on the head and has no visor", "is worn on the head"),
        "cap": ("has a visor", "is worn on the head and has a visor"),
        "socks": ("is worn inside shoes", "is knitted for the feet"),
        "belt": ("has a buckle", "goes around the waist"),
        "tie": ("goes around the neck", "is worn with a collar"),
    }
)
PATTERN_CLAUSES = MappingProxyType(
    {
        "plain": ("is plain", "has no pattern", "is one solid color", "is plain without a pattern"),
        "striped": ("has stripes", "is striped", "has a striped pattern"),
        "checked": ("has checks", "is checked", "is plaid", "has a checked pattern"),
        "dotted": ("has dots", "is dotted", "has polka dots"),
        "floral": ("has flowers on it", "is floral", "has a floral pattern"),
        "printed": ("has a print on it", "has a printed graphic", "is printed with a logo"),
    }
)
PATTERN_NOUNS = MappingProxyType(
    {
        "striped": "stripes",
        "checked": "checks",
        "dotted": "dots",
        "floral": "flowers",
        "printed": "a print",
    }
)
SLEEVE_CLAUSES = MappingProxyType(
    {
        "none": ("has no sleeves", "is sleeveless"),
        "short": ("has short sleeves", "is short sleeved"),
        "long": ("has long sleeves", "is long sleeved", "has sleeves to the wrist"),
    }
)
LENGTH_CLAUSES = MappingProxyType(
    {
        "short": ("is short", "has a short cut", "ends above the knee"),
        "knee": ("is knee length", "reaches the knee", "ends at the knee"),
        "long": ("is long", "reaches the ankles", "has a full length"),
    }
)
