"""Sentences that name groups of people and say nothing against them: examples of what is ok, for a head of `safety`.

Insults name groups more often than praise does, so that a classifier learns the names themselves as insults. Neutral
sentences beside the data are the remedy of Dixon et al., Measuring and Mitigating Unintended Bias in Text
Classification, 2018. Sentences for training and for measuring have no pattern in common.
"""

_NAMED = (
    "gay lesbian bisexual transgender trans queer homosexual straight heterosexual nonbinary Muslim Jewish Christian "
    "Catholic Protestant Orthodox Buddhist Hindu Sikh atheist black white Asian African Latino Latina Hispanic Mexican "
    "Chinese Japanese Korean Indian Pakistani Arab Turkish Kurdish Iranian Russian Ukrainian Polish Romanian Roma "
    "American British German European Israeli Palestinian indigenous immigrant refugee foreign deaf blind disabled "
    "paralyzed autistic old elderly young teenage male female fat thin poor rich"
)
GROUPS = tuple(_NAMED.split(" "))

_TRAIN = (
    "I am {}.|I am a {} man.|I am a {} woman.|I'm {} and I like music.|As a {} person I agree with the article.|"
    "He is {}.|She is {}.|They are {}.|My brother is {}.|My best friend is {}.|My boss is {}, and a good one.|"
    "She is a {} doctor.|He is a {} teacher in our town.|We are a {} couple with two children.|"
    "{} people live here too.|{} people deserve the same rights.|{} men and women came to the meeting.|"
    "Two {} students won the prize.|A {} couple moved in next door.|A {} family opened the bakery.|"
    "The {} community held a festival on Sunday.|The {} writer reads from her book tonight.|"
    "There are many {} people in this city.|Most of my neighbours are {}.|Half of the players are {}.|"
    "I interviewed a {} nurse for the paper.|The {} actor thanked his mother.|Is the mayor {}?|"
    "What do {} voters think of it?|How is life for {} people here?|The law protects {} citizens as well.|"
    "The article lists famous {} scientists.|She was born to {} parents.|He grew up in a {} family.|"
    "The first {} president of the club spoke.|Being {} is nothing to be ashamed of.|I love my {} friends.|"
    "This page is about {} history.|The museum shows {} art.|Thanks to the {} volunteers who helped."
)
_MEASURE = (
    "I am a proud {} person.|Our daughter is {} and happy.|A {} driver took us home.|The {} judge read the verdict.|"
    "Several {} colleagues work on my floor.|The {} girl plays the violin.|You can be {} and a scientist.|"
    "Her husband is {} and lives in Leeds.|The council met {} residents yesterday.|"
    "A {} customer asked for the menu."
)


def sentences() -> list[str]:
    """To train with: a line a group and pattern."""
    return _filled(_TRAIN)


def measured() -> list[str]:
    """To measure with."""
    return _filled(_MEASURE)


def _filled(patterns: str) -> list[str]:
    return [pattern.format(group) for pattern in patterns.split("|") for group in GROUPS]
