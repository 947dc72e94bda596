"""The words of the built-in prompt rules. Called by prompt_rules.py.

English, with the plainest words of German, French and Spanish. A phrase that ends in '*' stands for
all words that begin so.
"""

from __future__ import annotations


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(" ".join(phrase.split()) for phrase in text.split(","))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ALWAYS = _phrases(
    """
    child porn, kiddie porn, kid porn, child pornography, child erotica, csam, lolicon,
    shotacon, loli, shota, lolita porn, jailbait, pedophil*, paedophil*, pedo, paedo,
    kinderporn*, bestiality, zoophilia, revenge porn, deepfake porn, upskirt*, creepshot*,
    nonconsensual porn
    """
)

# Refused where one of each stands in a prompt.
MINORS = _phrases(
    """
    child, children, childlike, kid, kids, kiddie, toddler, toddlers, infant, infants, newborn,
    newborns, baby, babies, teen, teens, teenage, teenaged, teenager, teenagers, preteen,
    preteens, tween, tweens, minors, underage, underaged, juvenile, juveniles, adolescent,
    adolescents, schoolgirl, schoolgirls, schoolboy, schoolboys, schoolchild, schoolchildren,
    girl, girls, boy, boys, lolita, kinder, enfant, enfants, fillette, nina, nino, ninos, ninas,
    madchen, schulmadchen, pubescent, prepubescent
    """
)
SEXUAL = _phrases(
    """
    nude, nudes, nudity, nudist, naked, topless, bottomless, sexy, sexual*, erotic*, erotik*,
    porn*, nsfw, hentai, ecchi, lingerie, fetish*, seductive*, sensual*, orgasm*, masturbat*,
    xxx, striptease, stripper, provocative pose, bare breasts, bare breasted, genital closeup,
    nackt*, desnudo, desnuda, desnudos, desnudas, without clothes, without clothing, without any
    clothes, no clothes, having sex, sex act, sex acts, sex scene, sex tape
    """
)

# No rule sees these: of anatomy, animals, clothes, breeds and makes, and eponyms with given names.
HARMLESS = _phrases(
    """
    naked eye, nude mouse, nude mice, nude rat, nude rats, naked mole rat, naked mole rats, baby
    s breath, cox ingersoll, merkel cell, merkel cells, pierre robin, charcot marie tooth, marie
    unna, marie bamberger, mary joseph, lou gehrig, lou gehrigs, louis bar, osgood schlatter,
    austin flint, graham steell, graham little, ramsay hunt, marcus gunn, argyll robertson, john
    cunningham, johns hopkins, thomas splint, mary jane, mary janes, peter pan collar, peter
    pan, king charles spaniel, king charles spaniels, jack russell, purple martin, sand martin,
    house martin, aston martin, john deere, hugo boss, louis vuitton, kelly green, doc martens,
    dr martens, ali baba, tom collins, einstein ring, einstein cross, einstein rings, sexual
    dimorphism, sexual maturation, sexual maturity, sexual development, sexual reproduction,
    sexually transmitted, sexual health, naked cake, naked cakes, ann arbor, hans christian
    andersen
    """
)

# A name before one of these is that of a finding, a tool or a part of the body.
EPONYMS = _words(
    """
    anaemia anemia angle anomaly arteritis ataxia bandage bodies body boulevard canal carcinoma
    catheter cell cells chorea clamp classification contracture deformity disease disorder
    dressing duct dystrophy encephalopathy fistula forceps fracture gland glands hypotrichosis
    layer ligament line lines lymphoma malformation maneuver manoeuvre method murmur nephropathy
    neuropathy nevus node nodes nodule operation palsy phenomenon position procedure projection
    pupil reflex ring rings sarcoma scale score sequence sign splint spot spots stadium stain
    staining syndrome test thyroiditis tooth tower tube tumor tumour ulcer view
    """
)

# Capitals after a given name that begin no surname: of titles, and of places.
NO_SURNAMES = EPONYMS | _words(
    """
    a airport an and art as at avenue bag bay beach biopsy bird blouse boots boulevard bridge by
    cap car castle cat cathedral chapel church city close closeup clothes coat collar college
    costume county court ct desert diagram dog drawing dress face falls flower flowers for
    forest from front garden gardens gown hair haircut hall harbor has hat heels her hill his
    histology holding horse hospital house icon illustration image in into is island islands its
    jacket jeans lake lesion logo market microscopy mountain mountains mri museum near next
    ocean of on or outdoors over painting palace pants park pattern peninsula pet photo
    photograph picture place plate portrait poster render river road sandals scan scarf scene
    school sea shirt shoe shoes shorts side sitting sketch skirt skyline sleeve sleeves slide
    smiling sneakers square standing station statue street style suit sweater temple the their
    to tower trousers ultrasound under uniform university valley walking was wearing while who
    with without xray
    """
)
PARTICLES = _words(
    """
    al bin da de del della den der di dos du el ibn la le ten ter van von zu
    """
)
SAINTS = _words(
    """
    saint san sankt santa santo sao sint st ste
    """
)
